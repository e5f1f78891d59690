package catalogcmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Fates of a lost job.
const (
	fateLost     = "lost"      // it may be rerun
	fateRerun    = "rerun"     // it has been rerun
	fateFollowUp = "follow_up" // it comes with the rerun of the job that asked for it
	fateGone     = "gone"      // nobody knows its arguments any more
)

// lostJob is a job of which the database has no trace.
type lostJob struct {
	jobs.SucceededJob
	Begun bool   `json:"begun_before"` // it was running at the time that was restored
	Fate  string `json:"fate"`
}

var lostColumns = []cli.Column[lostJob]{
	{Name: "uid", Of: func(j lostJob) any { return j.UID }},
	{Name: "kind", Of: func(j lostJob) any { return j.Kind }},
	{Name: "tenant", Of: func(j lostJob) any { return j.Tenant }},
	{Name: "ended_at", Of: func(j lostJob) any { return j.EndedAt }},
	{Name: "begun_before", Of: func(j lostJob) any { return j.Begun }},
	{Name: "fate", Of: func(j lostJob) any { return j.Fate }},
	{Name: "rerun_as", Of: func(j lostJob) any { return j.RerunAs }},
}

// selectInLedger says which of these jobs have had their effect here.
const selectInLedger = `
SELECT g.uid::pg_catalog.text FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.uuid[])) AS g (org, uid)
 WHERE EXISTS (SELECT FROM headgate.ledger l WHERE l.org_id OPERATOR(pg_catalog.=) g.org AND l.job_uid OPERATOR(pg_catalog.=) g.uid
                  AND l.step OPERATOR(pg_catalog.=) '' AND l.state OPERATOR(pg_catalog.=) 'done')`

// ledgerPage is the number of jobs that one statement asks for.
const ledgerPage = 5_000

// inLedger are the UIDs of those jobs that the database's ledger has.
func inLedger(ctx context.Context, conn *pgx.Conn, db catalog.Database, list []jobs.SucceededJob) (map[string]bool, error) {
	there := map[string]bool{}
	for part := range slices.Chunk(list, ledgerPage) {
		orgs, uids := make([]int64, len(part)), make([]string, len(part))
		for i, j := range part {
			orgs[i], uids[i] = j.OrgID, j.UID
		}
		rows, err := conn.Query(ctx, selectInLedger, orgs, uids)
		if err != nil {
			return nil, fmt.Errorf("asking the ledger of database %s: %w", db.Name, err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("asking the ledger of database %s: %w", db.Name, err)
		}
		for _, uid := range found {
			there[uid] = true
		}
	}
	return there, nil
}

// judge says of those jobs that are not there what is to become of them, by kind and the
// time when they ended.
func judge(succeeded []jobs.SucceededJob, there map[string]bool, at time.Time) []lostJob {
	lost, comes := []lostJob{}, map[string]bool{}
	for _, j := range succeeded {
		if !there[j.UID] {
			lost = append(lost, lostJob{SucceededJob: j, Begun: j.StartedAt.Before(at)})
			comes[j.UID] = !j.Gone || j.RerunAs != ""
		}
	}
	for i := range lost {
		switch j := &lost[i]; {
		case j.RerunAs != "":
			j.Fate = fateRerun
		case j.Gone:
			j.Fate = fateGone
		case comes[j.Parent] || j.ParentRerun:
			j.Fate = fateFollowUp
		default:
			j.Fate = fateLost
		}
	}
	slices.SortStableFunc(lost, func(a, b lostJob) int { return strings.Compare(a.Kind, b.Kind) })
	return lost
}

// lostKind are the lost jobs of a kind, by what is to become of them.
type lostKind struct {
	Kind      string    `json:"kind"`
	Lost      int       `json:"lost"`
	Begun     int       `json:"begun_before"`
	Rerun     int       `json:"rerun"`
	FollowUps int       `json:"follow_ups"`
	Gone      int       `json:"gone"`
	Left      int       `json:"to_rerun"`
	First     time.Time `json:"first_ended_at"`
	Last      time.Time `json:"last_ended_at"`
}

var lostKindColumns = []cli.Column[lostKind]{
	{Name: "kind", Of: func(k lostKind) any { return k.Kind }},
	{Name: "lost", Of: func(k lostKind) any { return k.Lost }},
	{Name: "begun_before", Of: func(k lostKind) any { return k.Begun }},
	{Name: "rerun", Of: func(k lostKind) any { return k.Rerun }},
	{Name: "follow_ups", Of: func(k lostKind) any { return k.FollowUps }},
	{Name: "gone", Of: func(k lostKind) any { return k.Gone }},
	{Name: "to_rerun", Of: func(k lostKind) any { return k.Left }},
}

// kindsOf counts jobs that judge has put in order.
func kindsOf(lost []lostJob) (kinds []lostKind) {
	for _, j := range lost {
		if len(kinds) == 0 || kinds[len(kinds)-1].Kind != j.Kind {
			kinds = append(kinds, lostKind{Kind: j.Kind, First: j.EndedAt})
		}
		k := &kinds[len(kinds)-1]
		k.Lost, k.Last = k.Lost+1, j.EndedAt
		if j.Begun {
			k.Begun++
		}
		switch j.Fate {
		case fateRerun:
			k.Rerun++
		case fateFollowUp:
			k.FollowUps++
		case fateGone:
			k.Gone++
		default:
			k.Left++
		}
	}
	return kinds
}

// rerunKind is what was done about the lost jobs of a kind.
type rerunKind struct {
	Kind    string `json:"kind"`
	Rerun   int    `json:"rerun"`   // now, or to be rerun in a dry run
	Before  int    `json:"before"`  // somebody else has rerun them meanwhile
	Refused int    `json:"refused"` // by their tenant's state, or their arguments
}

var rerunKindColumns = []cli.Column[rerunKind]{
	{Name: "kind", Of: func(k rerunKind) any { return k.Kind }},
	{Name: "rerun", Of: func(k rerunKind) any { return k.Rerun }},
	{Name: "before", Of: func(k rerunKind) any { return k.Before }},
	{Name: "refused", Of: func(k rerunKind) any { return k.Refused }},
}

func (k *rerunKind) count(result jobs.RerunOnceResult) {
	switch {
	case result.Err != nil:
		k.Refused++
	case result.Result.Status == jobs.StatusSame:
		k.Before++
	default:
		k.Rerun++
	}
}

// plannedKinds are the counts of a dry run.
func plannedKinds(list []lostJob) []rerunKind {
	kinds := map[string]*rerunKind{}
	for _, j := range list {
		if kinds[j.Kind] == nil {
			kinds[j.Kind] = &rerunKind{Kind: j.Kind}
		}
		kinds[j.Kind].Rerun++
	}
	return sortedKinds(kinds)
}

func sortedKinds(kinds map[string]*rerunKind) []rerunKind {
	list := make([]rerunKind, 0, len(kinds))
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		list = append(list, *kinds[name])
	}
	return list
}

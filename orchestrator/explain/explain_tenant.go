package explain

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// TenantExplanation answers how a tenant's work stands, and what stops it.
type TenantExplanation struct {
	Tenant string                  `json:"tenant"` // slug
	Status string                  `json:"status"`
	Plan   string                  `json:"plan"`
	Work   []TenantWork            `json:"work"`
	Limits []admission.TenantLimit `json:"limits"`
	Facts  []Fact                  `json:"facts"` // what stops it, in order; else its share
}

// TenantWork is a tenant's work of one kind in one queue. Its jobs are counted up to
// 1,000 in each state; those that wait for a time, up to 1,000 of the tenant.
type TenantWork struct {
	Queue     string     `json:"queue"`
	Kind      string     `json:"kind"`
	Waiting   int        `json:"waiting"` // for a worker
	Running   int        `json:"running"`
	Held      int        `json:"held"`      // their last attempt ended for a reason that is not their own, and used none
	Failed    int        `json:"failed"`    // and tried again
	Scheduled int        `json:"scheduled"` // for later, or put off by their handler
	Before    int        `json:"before"`    // tenants' kinds that had less service
	Until     *time.Time `json:"until"`     // until when nothing of it is due or allowed, where that is known
}

// maxLanes bounds the kinds and queues of one tenant that are looked at.
const maxLanes = 50

// lanesOfSQL walks the lanes of an owner, those with work first.
const lanesOfSQL = `
SELECT queue, kind FROM headgate.lanes WHERE lane = $1 ORDER BY active DESC, queue, kind LIMIT $2`

// waitingOfSQL finds the queues and kinds of an owner's available jobs, also where no
// worker has ever looked. It jumps from queue to queue, and from kind to kind.
const waitingOfSQL = `
SELECT q.queue, k.kind
FROM headgate.waiting_queues() AS q (queue)
CROSS JOIN LATERAL (
    WITH RECURSIVE kinds (kind, n) AS (
        (SELECT kind, 1 FROM river_job WHERE state = 'available' AND queue = q.queue AND headgate.lane(metadata) = $1 ORDER BY kind LIMIT 1)
        UNION ALL
        SELECT (SELECT j.kind FROM river_job j WHERE j.state = 'available' AND j.queue = q.queue AND headgate.lane(j.metadata) = $1 AND j.kind > k.kind ORDER BY j.kind LIMIT 1), n + 1
        FROM kinds k WHERE k.kind IS NOT NULL AND n <= $2
    )
    SELECT kind FROM kinds WHERE kind IS NOT NULL
) k
LIMIT $2`

// laterOfSQL reads those of an owner's jobs that wait for a time, the next first.
const laterOfSQL = `
SELECT queue, kind, state::text, scheduled_at, CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata->'held' END
FROM river_job WHERE state IN ('scheduled', 'retryable') AND headgate.lane(metadata) = $1
ORDER BY scheduled_at, id LIMIT $2`

// runningOfSQL counts an owner's running jobs. All that run are read, which slots bound.
const runningOfSQL = `
SELECT queue, kind, count(*) FROM river_job
WHERE state = 'running' AND headgate.lane(metadata) = $1 GROUP BY 1, 2 LIMIT $2`

// lockedOfSQL looks at the first rows of an owner's work that is due, of those queues.
const lockedOfSQL = `
SELECT coalesce(max(headgate.locked_by(x)), '')
FROM (
    (SELECT xmax AS x FROM river_job WHERE state IN ('scheduled', 'retryable') AND headgate.lane(metadata) = $1 AND scheduled_at < clock_timestamp() ORDER BY scheduled_at, id LIMIT 20)
    UNION ALL
    SELECT j.x
    FROM unnest($2::text[]) AS q (queue)
    CROSS JOIN LATERAL (SELECT xmax AS x FROM river_job WHERE state = 'available' AND queue = q.queue AND headgate.lane(metadata) = $1 LIMIT 20) j
) r
WHERE x::text <> '0'`

// ExplainTenant says what waits and runs of a tenant, and what stops it, as of one
// moment: the rows by which workers claim, and the jobs that wait for a time. Its cost
// does not grow with the queue. The error matches jobs.ErrUnknownTenant.
func (x *Explainer) ExplainTenant(ctx context.Context, tenant string) (TenantExplanation, error) {
	found, err := x.catalog.Tenant(ctx, tenant)
	if err != nil {
		return TenantExplanation{}, err
	}
	e := TenantExplanation{Tenant: found.Slug, Status: string(found.Status), Plan: found.Plan, Work: []TenantWork{}}
	if e.Limits, err = x.control.TenantLimits(ctx, found.ID); err != nil {
		return e, err
	}
	tx, err := beginOnIndexes(ctx, x.pool)
	if err != nil {
		return e, fmt.Errorf("tenant %s: %w", found.Slug, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has written nothing
	t := tenantStanding{own: &standing{owner: found.ID}}
	if err = t.look(ctx, tx); err == nil {
		err = askIn(ctx, tx, append(t.standings, t.own))
	}
	if err != nil {
		return e, fmt.Errorf("explaining tenant %s: %w", found.Slug, err)
	}
	e.explain(&t)
	return e, nil
}

// tenantStanding is what bears on all work of a tenant.
type tenantStanding struct {
	own       *standing // of no kind and queue
	standings []*standing
	work      map[work]*workCounts
	held      map[jobs.Class]*heldJobs
	retry     nextOf
	scheduled nextOf
	lockedBy  string // who has locked a row of its work that is due
}

type work struct{ queue, kind string }

type workCounts struct{ held, failed, scheduled, running int }

// nextOf counts jobs that wait for a time.
type nextOf struct {
	jobs int
	at   jobs.Time // of the first
}

func (n *nextOf) add(at jobs.Time) {
	if n.jobs == 0 {
		n.at = at
	}
	n.jobs++
}

// heldJobs are those that wait for one reason.
type heldJobs struct {
	nextOf
	since time.Time // of the oldest
}

// look finds the queues and kinds that the tenant has work of.
func (t *tenantStanding) look(ctx context.Context, tx pgx.Tx) error {
	t.work, t.held = map[work]*workCounts{}, map[jobs.Class]*heldJobs{}
	known := map[work]bool{}
	for _, sql := range []string{waitingOfSQL, lanesOfSQL} {
		rows, _ := tx.Query(ctx, sql, t.own.owner, maxLanes) // its error is ForEachRow's too
		var w work
		if _, err := pgx.ForEachRow(rows, []any{&w.queue, &w.kind}, func() error { t.add(known, w); return nil }); err != nil {
			return err
		}
	}
	var w work
	var running int
	rows, _ := tx.Query(ctx, runningOfSQL, t.own.owner, maxLanes) // as above
	if _, err := pgx.ForEachRow(rows, []any{&w.queue, &w.kind, &running}, func() error {
		t.add(known, w)
		t.counts(w).running = running
		return nil
	}); err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, laterOfSQL, t.own.owner, maxCount) // as above
	var state string
	var at jobs.Time
	var held []byte
	_, err := pgx.ForEachRow(rows, []any{&w.queue, &w.kind, &state, &at, &held}, func() error {
		t.add(known, w)
		t.wait(w, state, at, held)
		return nil
	})
	if err != nil {
		return err
	}
	queues := []string{}
	for _, s := range t.standings {
		queues = append(queues, s.queue)
	}
	return tx.QueryRow(ctx, lockedOfSQL, t.own.owner, queues).Scan(&t.lockedBy)
}

func (t *tenantStanding) add(known map[work]bool, w work) {
	if !known[w] && len(known) < maxLanes {
		known[w] = true
		t.standings = append(t.standings, &standing{owner: t.own.owner, queue: w.queue, kind: w.kind})
	}
}

func (t *tenantStanding) counts(w work) *workCounts {
	n := t.work[w]
	if n == nil {
		n = &workCounts{}
		t.work[w] = n
	}
	return n
}

// wait counts a job that waits for a time.
func (t *tenantStanding) wait(w work, state string, at jobs.Time, metadata []byte) {
	n := t.counts(w)
	var held jobs.Held
	switch err := json.Unmarshal(metadata, &held); {
	case err == nil && held.Class != "" && held.Times > 0:
		n.held++
		h := t.held[held.Class]
		if h == nil {
			h = &heldJobs{since: held.Since}
			t.held[held.Class] = h
		}
		h.add(at)
		if held.Since.Before(h.since) {
			h.since = held.Since
		}
	case queue.StateOf(state) == jobs.Failed:
		n.failed++
		t.retry.add(at)
	default:
		n.scheduled++
		t.scheduled.add(at)
	}
}

// explain is the rule of ExplainTenant.
func (e *TenantExplanation) explain(t *tenantStanding) {
	waits := t.waits()
	t.own.idle = !waits
	e.Facts = t.own.facts()
	for _, s := range t.standings {
		work := TenantWork{Queue: s.queue, Kind: s.kind, Waiting: s.turn.waiting, Before: s.turn.before}
		if n := t.work[worksOn(s)]; n != nil {
			work.Held, work.Failed, work.Scheduled, work.Running = n.held, n.failed, n.scheduled, n.running
		}
		if !s.turn.active {
			work.Until = usual(s.turn.wakeAt)
		}
		e.Work = append(e.Work, work)
		if s.turn.waiting > 0 {
			e.Facts = append(e.Facts, s.facts()...)
		}
	}
	known := map[string]bool{}
	e.Facts = slices.DeleteFunc(e.Facts, func(f Fact) bool {
		twice := known[f.Fact]
		known[f.Fact] = true
		return twice
	})
	slices.SortStableFunc(e.Facts, func(a, b Fact) int { return cmp.Compare(slices.Index(stops, a.Code), slices.Index(stops, b.Code)) })
	e.Facts = append(t.laterFacts(e.Tenant), e.Facts...)
	if !waits {
		e.Facts = append(e.Facts, Fact{Code: CodeNoWork, Fact: "nothing of tenant " + e.Tenant + " waits"})
	}
	for _, s := range t.standings {
		if share, ok := s.share(); ok && !known[share.Fact] {
			known[share.Fact] = true
			e.Facts = append(e.Facts, share)
		}
	}
}

// waits says whether any job of the tenant waits, be it for a worker or for a time.
func (t *tenantStanding) waits() bool {
	return slices.ContainsFunc(t.standings, func(s *standing) bool {
		n := t.work[worksOn(s)]
		return s.turn.waiting > 0 || n != nil && n.held+n.failed+n.scheduled > 0
	})
}

func worksOn(s *standing) work { return work{s.queue, s.kind} }

// laterFacts say what waits for a time: what is held by its reason, and what is not.
func (t *tenantStanding) laterFacts(slug string) []Fact {
	var facts []Fact
	zone := t.own.zone
	for class, h := range t.held {
		facts = append(facts, Fact{Code: CodeHeld, Since: &h.since, Until: h.at.Usual(), Next: step(class, "", t.own.database),
			Fact: fmt.Sprintf("%s held: the last attempt ended as %s, first %s, and used none; the next is tried %s", areOf(h.jobs, "job"), class, moment(h.since, zone), moment(h.at.Time, zone))})
	}
	slices.SortFunc(facts, func(a, b Fact) int { return cmp.Compare(a.Fact, b.Fact) })
	if t.lockedBy != "" {
		facts = append(facts, Fact{Code: CodeRowLocked, Fact: "a row of its work is locked by " + t.lockedBy + ": that job is neither claimed nor ended until the transaction is over", Next: central.EndSession(t.lockedBy)})
	}
	if t.retry.jobs > 0 {
		facts = append(facts, Fact{Code: CodeRetryDue, Until: t.retry.at.Usual(), Next: fmt.Sprintf("`headgate job list --tenant %s --state failed` shows them", slug),
			Fact: fmt.Sprintf("%s to be tried again after a failure; the next %s", areOf(t.retry.jobs, "job"), moment(t.retry.at.Time, zone))})
	}
	if t.scheduled.jobs > 0 {
		facts = append(facts, Fact{Code: CodeNotDue, Until: t.scheduled.at.Usual(),
			Fact: fmt.Sprintf("%s scheduled for later; the next %s", areOf(t.scheduled.jobs, "job"), moment(t.scheduled.at.Time, zone))})
	}
	return facts
}

package claim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

const (
	doneRows    = 100_000
	waitingRows = 2_000
	runningRows = 200 // 50 each of four incarnations
)

// incarnation is the nth of the plans' four.
func incarnation(n int) string { return fmt.Sprintf("0190aaaa-0000-7000-8000-00000000000%d", n) }

// fill makes a queue as it looks after a busy day.
const fill = `
SET LOCAL synchronous_commit = off;
INSERT INTO river_job (id, kind, args, state, queue, max_attempts, attempt, attempted_by, finalized_at, attempted_at, scheduled_at, metadata)
SELECT n, 'act', '{}', 'completed', 'default', 25, 1, ARRAY['0190aaaa-0000-7000-8000-000000000000:' || n], now(), now(), now(), '{}'
FROM generate_series(1, 100000) n;
INSERT INTO river_job (id, kind, args, state, queue, max_attempts, scheduled_at, metadata)
SELECT 100000 + n, 'act', '{}', 'available', 'default', 25, now(), '{}' FROM generate_series(1, 2000) n;
INSERT INTO river_job (id, kind, args, state, queue, max_attempts, attempt, attempted_by, attempted_at, scheduled_at, metadata)
SELECT 102000 + n, 'act', '{}', 'running', 'default', 25, 1, ARRAY['0190aaaa-0000-7000-8000-00000000000' || n % 4 + 1 || ':' || n], now(), now(),
       jsonb_build_object('job_uid', gen_random_uuid())
FROM generate_series(1, 200) n;
INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues)
SELECT ('0190aaaa-0000-7000-8000-00000000000' || n)::uuid, 'w' || n, '', n, '{}', '{}' FROM generate_series(1, 4) n;
INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, ended_at)
SELECT gen_random_uuid(), 'gone', '', n, '{}', '{}', now() FROM generate_series(1, 2000) n;
INSERT INTO headgate.suspects (job_id, job_uid, kind, deaths) SELECT 102000 + n, '', 'act', 2 FROM generate_series(1, 20) n`

// Every statement that a worker repeats finds its rows by an index and looks at
// as many as it is about, however many finished jobs the queue still holds: with
// the parameters known, and with the generic plan that Postgres may settle on.
func TestPlans(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, fill); return err }))
	_, err := env.Pool.Exec(ctx, `ANALYZE river_job, headgate.workers, headgate.suspects`)
	require.NoError(t, err)

	// Fifty of the running jobs end, or are given back.
	ids, uids, tokens, nulls, falses := "{", "{", "{", "{", "{"
	for n := 4; n <= runningRows; n += 4 {
		ids += fmt.Sprint(doneRows+waitingRows+n, ",")
		uids += fmt.Sprintf("0190bbbb-0000-7000-8000-%012d,", n)
		tokens += fmt.Sprintf("%s:%d,", incarnation(1), n)
		nulls, falses = nulls+"NULL,", falses+"f,"
	}
	list := func(s string) string { return "'" + strings.TrimSuffix(s, ",") + "}'" }
	idList, tokenList, falseList := list(ids), list(tokens), list(falses)
	times := list(strings.ReplaceAll(nulls, "NULL", "2026-01-02"))
	texts := list(strings.ReplaceAll(nulls, "NULL", "x"))
	const one, no, blank, none = "'{1}'", "'{f}'", "'{x}'", "NULL"
	ends := []string{idList, tokenList, "'{completed}'", none, none, times, none, none, no, list(uids), list(uids), list(uids), list(uids),
		one, blank, blank, blank, blank, blank, no, times, times, one, blank, blank, blank, `'{"{}"}'`}
	quoted := "'" + incarnation(1) + "'"
	const byID, running, byState = "river_job_pkey", "river_job_headgate_running", "river_job_prioritized_fetching_index"
	for _, q := range []struct {
		name, sql string
		args      []string
		index     []string // any of these on river_job
		rows      float64  // of river_job at most, in all
	}{
		{"end", claim.EndSQL, append(slices.Clone(ends), "''", "NULL", "now()"), []string{byID}, 50},
		{"ended before", claim.EndedBeforeSQL, append(slices.Clone(ends), "''"), []string{byID}, 50},
		{"give back", claim.GiveBackSQL, []string{idList, falseList, "'w1'", "'lost_worker'", "''"}, []string{byID}, 50},
		{"cancelling", claim.CancellingSQL, []string{"'102004'", "'" + incarnation(1) + ":4'"}, []string{byID, "river_job_headgate_cancelling"}, 1},
		{"end cancelling", claim.EndCancellingSQL, []string{"'102004'", "'" + incarnation(1) + ":4'", "'cancelled'"}, []string{byID, "river_job_headgate_cancelling"}, 1},
		{"lock in flight", claim.LockInflightRowsSQL, []string{quoted, "3", "1000"}, []string{running}, 50},
		{"in flight", claim.InflightRowsSQL, []string{quoted}, []string{running}, 50},
		{"take foreign", claim.TakeForeignSQL, []string{"'1 hour'", "1000"}, []string{running, byState}, runningRows},
		{"rows that are locked", claim.LockedRowsSQL, []string{idList}, []string{byID}, 2 * 50},
		{"lock unclaimed", claim.LockUnclaimedSQL, []string{idList, tokenList}, []string{byID, byState}, runningRows},
		{"running", claim.RunningSQL, []string{"'{" + incarnation(1) + ",\"\"}'"}, []string{running}, 50},
		{"orphans", claim.OrphansSQL, nil, []string{running, byState}, runningRows},
		{"put back", claim.PutBackSQL, []string{idList}, []string{byID}, 50},
		{"suspect", claim.SuspectSQL, []string{idList, texts, texts, "NULL", "'1 minute'", quoted}, nil, 0},
		{"which suspects", claim.WhichSuspectsSQL, []string{idList}, nil, 0},
		{"any suspects", claim.AnySuspectsSQL, nil, nil, 0},
		{"call next", claim.CallNextSQL, nil, []string{byID, byState}, 20 + 2},
		{"peers", claim.PeersSQL, []string{quoted}, nil, 0},
		{"beat", claim.BeatSQL, []string{quoted, "'{}'", "'{}'"}, nil, 0},
		{"mark dead", claim.MarkDeadSQL, []string{quoted, "0"}, nil, 0},
	} {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			t.Run(q.name+" "+mode, func(t *testing.T) {
				scans := explain(t, env, mode, q.sql, q.args)
				t.Logf("%+v", scans)
				rows := 0.0
				for _, s := range scans {
					if s.Relation == "river_job" {
						require.Contains(t, q.index, s.Index)
						rows += s.touched()
					}
					if s.Relation == "workers" && q.name != "suspect" { // a death is rare
						require.Less(t, s.touched(), 100.0, "finished incarnations are looked at: %+v", s)
					}
				}
				require.LessOrEqual(t, rows, q.rows)
			})
		}
	}
}

// scan is a node of a plan that reads a table.
type scan struct {
	Node     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Loops    float64 `json:"Actual Loops"`
	Rows     float64 `json:"Actual Rows"`
	Filtered float64 `json:"Rows Removed by Filter"`
	Plans    []scan  `json:"Plans"`
}

func (s scan) touched() float64 { return s.Loops * (s.Rows + s.Filtered) }

// reads lists the nodes under s that read a table; a bitmap's index is the
// heap's.
func (s scan) reads() (all []scan) {
	if strings.HasSuffix(s.Node, "Scan") && s.Relation != "" {
		one := s
		if i := slices.IndexFunc(s.Plans, func(p scan) bool { return p.Node == "Bitmap Index Scan" }); i >= 0 {
			one.Index = s.Plans[i].Index
		}
		one.Plans = nil
		all = append(all, one)
	}
	for _, p := range s.Plans {
		all = append(all, p.reads()...)
	}
	return all
}

// explain runs a statement and rolls it back.
func explain(t *testing.T, env *jobstest.Env, mode, sql string, args []string) []scan {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	execute := "EXECUTE explained"
	if len(args) > 0 {
		execute += " (" + strings.Join(args, ", ") + ")"
	}
	// The simple protocol, as a person would type it.
	results, err := conn.PgConn().Exec(ctx, `BEGIN; SET LOCAL plan_cache_mode = `+mode+`; PREPARE explained AS `+sql+
		`; EXPLAIN (ANALYZE, FORMAT JSON) `+execute+`; ROLLBACK`).ReadAll()
	require.NoError(t, err)
	var plans []struct{ Plan scan }
	require.NoError(t, json.Unmarshal(results[3].Rows[0][0], &plans))
	return plans[0].Plan.reads()
}

package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
)

func janitor(t *testing.T, env *jobstest.Env, cfg orchestrator.JanitorConfig) *orchestrator.Janitor {
	t.Helper()
	j, err := orchestrator.NewJanitor(env.Client, cfg)
	require.NoError(t, err)
	return j
}

func sweep(t *testing.T, j *orchestrator.Janitor) orchestrator.Swept {
	t.Helper()
	swept, err := orchestrator.Sweep(j, context.Background())
	require.NoError(t, err)
	return swept
}

// month is the name of the partition of a time.
func month(at time.Time) string { return "outcomes_" + at.UTC().Format("2006_01") }

// inMonth is the middle of a month, counted from the present one.
func inMonth(n int) time.Time {
	year, month, _ := time.Now().UTC().Date()
	return time.Date(year, month+time.Month(n), 15, 0, 0, 0, 0, time.UTC)
}

func partitions(t *testing.T, env *jobstest.Env) []string {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'headgate.outcomes'::regclass ORDER BY 1`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

// The coming months are made before they begin, and the old ones are dropped
// whole, when the last of a month is old enough.
func TestJanitorKeepsTheMonths(t *testing.T) {
	t.Parallel()
	env := setup(t)
	job := enqueue(t, env)
	for n := 1; n <= monthsAhead; n++ {
		do(t, env, `DROP TABLE IF EXISTS headgate.`+month(inMonth(n)))
	}
	for n := -16; n < 0; n++ {
		do(t, env, `SELECT headgate.add_outcomes_month($1)`, inMonth(n))
		outcome(t, env, job, "succeeded", "", "", inMonth(n))
	}
	outcome(t, env, job, "succeeded", "", "", time.Now())
	swept := sweep(t, janitor(t, env, orchestrator.JanitorConfig{}))
	require.Equal(t, []string{month(inMonth(1)), month(inMonth(2))}, swept.Made)
	require.Equal(t, month(inMonth(-16)), swept.Dropped[0])
	require.Contains(t, swept.Dropped, month(inMonth(-15)))
	require.NotContains(t, swept.Dropped, month(inMonth(-13)), "it ended less than 13 months ago")
	require.Equal(t, 17-len(swept.Dropped), count(t, env, `SELECT count(*) FROM headgate.outcomes`))
	require.Zero(t, count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))
	names := partitions(t, env)
	require.Equal(t, month(inMonth(2)), names[len(names)-2])
	require.Equal(t, "outcomes_default", names[len(names)-1])
	require.Zero(t, sweep(t, janitor(t, env, orchestrator.JanitorConfig{})), "a second pass has nothing to do")

	swept = sweep(t, janitor(t, env, orchestrator.JanitorConfig{HistoryRetention: 24 * time.Hour}))
	require.Contains(t, swept.Dropped, month(inMonth(-2)))
	require.Contains(t, partitions(t, env), month(time.Now()))
}

const monthsAhead = 2

// A database clock that is years ahead does not cost the history: nothing goes
// that is young by this process's clock. It cannot be tried on a real server,
// whose clock is ours, so the other half is: what the function is given decides.
func TestDropMonths(t *testing.T) {
	t.Parallel()
	env := setup(t)
	do(t, env, `SELECT headgate.add_outcomes_month($1)`, time.Now())
	var dropped []string
	end := time.Date(inMonth(1).Year(), inMonth(1).Month(), 1, 0, 0, 0, 0, time.UTC)
	for at, over := range map[time.Time]bool{end.Add(-time.Microsecond): false, end: true} {
		undone := errors.New("undone")
		require.ErrorIs(t, pgx.BeginFunc(context.Background(), env.Pool, func(tx pgx.Tx) error {
			require.NoError(t, tx.QueryRow(context.Background(), `SELECT headgate.drop_outcomes_months($1)`, at).Scan(&dropped))
			require.Equal(t, over, slices.Contains(dropped, month(time.Now())))
			return undone
		}), undone)
	}
}

// Outcomes of no month lie in the default partition, move when their month is
// made, and go when they are old. A month with too many of them stays there.
func TestJanitorAndStrays(t *testing.T) {
	t.Parallel()
	env := setup(t)
	job := enqueue(t, env)
	outcome(t, env, job, "succeeded", "", "", inMonth(5))
	outcome(t, env, job, "succeeded", "", "", inMonth(-30))
	outcome(t, env, job, "succeeded", "", "", time.Now())
	require.Equal(t, 2, count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))
	attempts, err := env.Client.Attempts(context.Background(), job.UID)
	require.NoError(t, err)
	require.Len(t, attempts, 2, "the attempt long before its job was made is not looked for")

	do(t, env, `SELECT headgate.add_outcomes_month($1)`, inMonth(5))
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM headgate.`+month(inMonth(5))))
	swept := sweep(t, janitor(t, env, orchestrator.JanitorConfig{}))
	require.Equal(t, 1, swept.Strays)
	require.Zero(t, count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))

	do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), $1, 1, 'note', 1, 'failed', $2, $2 FROM generate_series(1, 10001)`, job.UID, inMonth(-40))
	require.Zero(t, count(t, env, `SELECT count(headgate.add_outcomes_month($1))`, inMonth(-40)))
	swept = sweep(t, janitor(t, env, orchestrator.JanitorConfig{Batch: 3000}))
	require.Equal(t, 10_001, swept.Strays, "in batches")
}

// Keys, workers and suspects past their time are deleted, younger ones are not.
func TestJanitorDeletes(t *testing.T) {
	t.Parallel()
	env := setup(t)
	job := enqueue(t, env)
	do(t, env, `
INSERT INTO headgate.idempotency_keys (scope, key, kind, args_hash, fields, job_uid, created_at)
SELECT gen_random_uuid(), 'k' || n, 'note', '', '{}', gen_random_uuid(), now() - CASE WHEN n <= 25 THEN interval '30 days 1 minute' ELSE interval '29 days' END
FROM generate_series(1, 35) n`)
	do(t, env, `
INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, beat_at, reaped_at, ended_at)
SELECT gen_random_uuid(), 'w', 'h', 1, '{}', '{}', now() - interval '30 days',
       CASE WHEN n % 2 = 0 THEN now() - n * interval '1 day' END, CASE WHEN n % 2 = 1 AND n < 20 THEN now() - n * interval '1 day' END
FROM generate_series(1, 21) n`)
	do(t, env, `INSERT INTO headgate.suspects (job_id, job_uid, kind) VALUES ($1, $2, 'note'), (999, 'gone', 'note')`, job.ID, job.UID)
	swept := sweep(t, janitor(t, env, orchestrator.JanitorConfig{Batch: 10}))
	require.Equal(t, 25, swept.Keys)
	require.Equal(t, 10, count(t, env, `SELECT count(*) FROM headgate.idempotency_keys`))
	require.Equal(t, 14, swept.Workers-count(t, env, `SELECT count(*) FROM headgate.workers WHERE coalesce(reaped_at, ended_at) < now() - interval '7 days'`))
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM headgate.workers WHERE reaped_at IS NULL AND ended_at IS NULL`), "one alive stays, however long it is silent")
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM headgate.suspects`))
}

// A cancelled job whose worker does not answer gets its tombstone unasked, once,
// also if another River client asked for the cancellation.
func TestJanitorBuriesCancelled(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	ours, theirs, young, odd, running := enqueue(t, env), enqueue(t, env), enqueue(t, env), enqueue(t, env), enqueue(t, env)
	for _, job := range []orchestrator.EnqueueResult{ours, theirs, young, odd, running} {
		runUnder(t, env, job.ID)
	}
	for _, job := range []orchestrator.EnqueueResult{ours, young} {
		_, err := env.Client.Cancel(ctx, job.UID, nil)
		require.NoError(t, err)
	}
	age(t, env, ours.ID)
	do(t, env, `UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' WHERE id = $1`, theirs.ID)
	do(t, env, `UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "never"}' WHERE id = $1`, odd.ID)
	j := janitor(t, env, orchestrator.JanitorConfig{})
	require.Equal(t, 2, sweep(t, j).Tombstones)
	require.Zero(t, sweep(t, j).Tombstones)
	for _, job := range []orchestrator.EnqueueResult{ours, theirs} {
		stone := jobOf(t, env, jobOf(t, env, job.UID).Tombstone)
		require.Contains(t, string(stone.Args), `"uid": "`+job.UID+`"`)
	}
	require.Empty(t, jobOf(t, env, young.UID).Tombstone)
}

// Many janitors at once do each piece of work once, and without an error; one
// that does not get the lock does nothing.
func TestJanitorsShareTheWork(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for n := 1; n <= monthsAhead; n++ {
		do(t, env, `DROP TABLE IF EXISTS headgate.`+month(inMonth(n)))
	}
	do(t, env, `
INSERT INTO headgate.idempotency_keys (scope, key, kind, args_hash, fields, job_uid, created_at)
SELECT gen_random_uuid(), 'k', 'note', '', '{}', gen_random_uuid(), now() - interval '31 days' FROM generate_series(1, 500)`)
	job := enqueue(t, env)
	runUnder(t, env, job.ID)
	_, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	age(t, env, job.ID)

	held, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = held.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, orchestrator.JanitorLock)
	require.NoError(t, err)
	require.Zero(t, sweep(t, janitor(t, env, orchestrator.JanitorConfig{})))
	require.NoError(t, held.Rollback(ctx))

	var mu sync.Mutex
	var all orchestrator.Swept
	for all.Keys < 500 || len(all.Made) < monthsAhead || all.Tombstones < 1 { // a pass leaves what another is at
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				j, err := orchestrator.NewJanitor(env.Client, orchestrator.JanitorConfig{Batch: 50})
				if err != nil {
					t.Error(err)
					return
				}
				swept, err := orchestrator.Sweep(j, ctx)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				all.Keys += swept.Keys
				all.Made = append(all.Made, swept.Made...)
				all.Tombstones += swept.Tombstones
			})
		}
		wg.Wait()
	}
	require.Equal(t, 500, all.Keys)
	require.Len(t, all.Made, monthsAhead)
	require.Equal(t, 1, all.Tombstones)
}

// Start works at once and on its own; Start and Stop may be called twice.
func TestJanitorStarts(t *testing.T) {
	t.Parallel()
	env := setup(t)
	do(t, env, `DROP TABLE IF EXISTS headgate.`+month(inMonth(2)))
	j := janitor(t, env, orchestrator.JanitorConfig{})
	j.Stop()
	j.Start()
	j.Start()
	defer j.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(fmt.Sprint(partitions(t, env)), month(inMonth(2))) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the janitor does not work")
		}
	}
	j.Stop()
	j.Stop()
}

func TestNewJanitorRefuses(t *testing.T) {
	t.Parallel()
	env := setup(t)
	for says, cfg := range map[string]orchestrator.JanitorConfig{
		"HistoryRetention is 1h0m0s: give 24h or more": {HistoryRetention: time.Hour},
		"Every is -1s: give a second or more":          {Every: -time.Second},
		"Batch is -1":                                  {Batch: -1},
	} {
		_, err := orchestrator.NewJanitor(env.Client, cfg)
		require.ErrorContains(t, err, says)
	}
}

// The attempts of a young job are looked for in the young months only.
func TestAttemptsPlan(t *testing.T) {
	t.Parallel()
	env := setup(t)
	for n := -12; n < 0; n++ {
		do(t, env, `SELECT headgate.add_outcomes_month($1)`, inMonth(n))
	}
	uid := uuid.Must(uuid.NewV7())
	made := time.Unix(uid.Time().UnixTime())
	rows, err := env.Pool.Query(context.Background(), `EXPLAIN (COSTS OFF) `+orchestrator.SelectAttemptsSQL, uid, made.Add(-7*24*time.Hour))
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	text := strings.Join(plan, "\n")
	require.Contains(t, text, month(time.Now()))
	require.Contains(t, text, "outcomes_default")
	require.NotContains(t, text, month(inMonth(-2)), text)
}

// What claiming leaves of those who are gone goes, in batches; all else stays.
func TestJanitorPrunes(t *testing.T) {
	t.Parallel()
	env := setup(t)
	alive, gone := uuid.NewString(), uuid.NewString()
	register(t, env, alive, []string{"note"}, []string{"default"})
	register(t, env, gone, []string{"note"}, []string{"default"})
	do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, wake_at, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', lane, 'note', active, wake_at, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1
FROM (SELECT id::text FROM headgate.tenants UNION SELECT id::text FROM headgate.databases UNION SELECT '' ) k (lane), (VALUES (false, NULL::timestamptz)) s (active, wake_at)
UNION ALL SELECT 'default', gen_random_uuid()::text, 'note', true, NULL, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1
UNION ALL SELECT 'default', gen_random_uuid()::text, 'note', false, now(), 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1`)
	kept := count(t, env, `SELECT count(*) FROM headgate.lanes`)
	do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', CASE WHEN i = 1 THEN 'odd' ELSE gen_random_uuid()::text END, 'note', false, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1 FROM generate_series(1, 7) i`)
	do(t, env, `INSERT INTO headgate.lane_rates VALUES ('a', now() - interval '25 hours'), ('b', now() - interval '23 hours'), ('c', now() + interval '1 hour')`)
	do(t, env, `INSERT INTO headgate.pauses (scope, target, until) VALUES ('kind', 'a', now() - interval '31 days'), ('kind', 'b', now() - interval '29 days'), ('kind', 'c', NULL)`)
	do(t, env, `INSERT INTO headgate.hands SELECT incarnation, '{}'::jsonb, false FROM headgate.workers UNION ALL SELECT gen_random_uuid(), '{}', false`)
	do(t, env, `ALTER TABLE headgate.workers DISABLE TRIGGER lanes_worker_gone`) // as if it had come too early
	do(t, env, `UPDATE headgate.workers SET ended_at = now() WHERE incarnation = $1`, gone)

	j := janitor(t, env, orchestrator.JanitorConfig{Batch: 3})
	swept := sweep(t, j)
	require.Equal(t, [4]int{7, 1, 1, 2}, [4]int{swept.Lanes, swept.Rates, swept.Pauses, swept.Hands})
	require.Equal(t, kept, count(t, env, `SELECT count(*) FROM headgate.lanes`))
	require.Equal(t, 2, count(t, env, `SELECT count(*) FROM headgate.lane_rates`))
	require.Equal(t, 2, count(t, env, `SELECT count(*) FROM headgate.pauses`))
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM headgate.hands WHERE incarnation = $1`, alive))
	do(t, env, `INSERT INTO headgate.lane_rates VALUES ('a', now() - interval '25 hours')`)
	require.Zero(t, sweep(t, j).Rates, "it is hourly work")
	require.Equal(t, 1, sweep(t, janitor(t, env, orchestrator.JanitorConfig{})).Rates)
}

// The load of a server is the sum over the hands of living workers; its breaker is
// the row that all go by, or the worst of what workers know.
func TestServerLoadsOfHands(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	load := func() orchestrator.ServerLoad {
		t.Helper()
		loads, err := env.Client.ServerLoads(ctx)
		require.NoError(t, err)
		for _, l := range loads {
			return l
		}
		return orchestrator.ServerLoad{}
	}
	require.Zero(t, load())
	holds(t, env, `{"servers": {"S": {"jobs": 2, "conns": 5}}}`)
	holds(t, env, `{"servers": {"S": {"jobs": 3, "conns": 1}}}`)
	require.Equal(t, orchestrator.ServerLoad{Running: 5, InUse: 8, Breaker: "closed"}, load())
	do(t, env, `UPDATE headgate.workers w SET servers = json_build_object(s.id, json_build_object('open', 4, 'waiting', 1, 'breaker', 'half-open')) FROM headgate.servers s
WHERE w.incarnation = (SELECT min(incarnation::text)::uuid FROM headgate.workers)`)
	require.Equal(t, orchestrator.ServerLoad{Running: 5, InUse: 8, Workers: 1, Open: 4, Waiting: 1, Breaker: "half-open"}, load())
	do(t, env, `INSERT INTO headgate.breakers (scope, id, until, cause) SELECT 'server', id, '2099-01-01Z', 'no route' FROM headgate.servers`)
	tripped := load()
	require.Equal(t, "open", tripped.Breaker)
	require.Equal(t, "no route", tripped.BreakerCause)
	require.NotNil(t, tripped.BreakerSince)
	do(t, env, `UPDATE headgate.workers SET reaped_at = now()`)
	do(t, env, `UPDATE headgate.breakers SET until = now()`)
	quiet := load()
	require.Equal(t, "half-open", quiet.Breaker)
	require.Zero(t, quiet.Running+quiet.InUse+quiet.Workers)
}

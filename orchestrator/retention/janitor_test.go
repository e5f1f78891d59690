package retention_test

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
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

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
	env := roomtest.Setup(t)
	job := roomtest.Enqueue(t, env)
	for n := 1; n <= monthsAhead; n++ {
		roomtest.Do(t, env, `DROP TABLE IF EXISTS headgate.`+roomtest.Month(roomtest.InMonth(n)))
	}
	for n := -16; n < 0; n++ {
		roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', $1)`, roomtest.InMonth(n))
		roomtest.Outcome(t, env, job, "succeeded", "", "", roomtest.InMonth(n))
	}
	roomtest.Outcome(t, env, job, "succeeded", "", "", time.Now())
	swept := roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, []string{roomtest.Month(roomtest.InMonth(1)), roomtest.Month(roomtest.InMonth(2))}, swept.Made)
	require.Equal(t, roomtest.Month(roomtest.InMonth(-16)), swept.Dropped[0])
	require.Contains(t, swept.Dropped, roomtest.Month(roomtest.InMonth(-15)))
	require.NotContains(t, swept.Dropped, roomtest.Month(roomtest.InMonth(-13)), "it ended less than 13 months ago")
	require.Equal(t, 17-len(swept.Dropped), roomtest.Count(t, env, `SELECT count(*) FROM headgate.outcomes`))
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))
	names := partitions(t, env)
	require.Equal(t, roomtest.Month(roomtest.InMonth(2)), names[len(names)-2])
	require.Equal(t, "outcomes_default", names[len(names)-1])
	require.Zero(t, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})), "a second pass has nothing to do")

	swept = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{HistoryRetention: 24 * time.Hour}))
	require.Contains(t, swept.Dropped, roomtest.Month(roomtest.InMonth(-2)))
	require.Contains(t, partitions(t, env), roomtest.Month(time.Now()))
}

const monthsAhead = 2

// A database clock that is years ahead does not cost the history: nothing goes
// that is young by this process's clock. It cannot be tried on a real server,
// whose clock is ours, so the other half is: what the function is given decides.
func TestDropMonths(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	old := roomtest.InMonth(-2) // whose end is more than a day past
	roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', $1)`, old)
	var dropped []string
	end := time.Date(old.Year(), old.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	for at, over := range map[time.Time]bool{end.Add(-time.Microsecond): false, end: true} {
		undone := errors.New("undone")
		require.ErrorIs(t, pgx.BeginFunc(context.Background(), env.Pool, func(tx pgx.Tx) error {
			require.NoError(t, tx.QueryRow(context.Background(), `SELECT headgate.drop_outcomes_months($1)`, at).Scan(&dropped))
			require.Equal(t, over, slices.Contains(dropped, roomtest.Month(old)))
			return undone
		}), undone)
	}
}

// Any worker's login may call the functions that drop months and days, and none of them drops
// the last day.
func TestTheLastDayStays(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for _, drop := range []string{"drop_outcomes_months", "drop_job_logs_days"} {
		for before, refused := range map[string]bool{
			"'infinity'": true, "now()": true, "now() + interval '10 years'": true, "now() - interval '23 hours'": true,
			"now() - interval '25 hours'": false, "'-infinity'": false, "NULL": false,
		} {
			_, err := env.Pool.Exec(context.Background(), `SELECT headgate.`+drop+`(`+before+`)`)
			if !refused {
				require.NoError(t, err, "%s %s", drop, before)
				continue
			}
			var said *pgconn.PgError
			require.ErrorAs(t, err, &said, "%s %s", drop, before)
			require.Equal(t, "22023", said.Code)
			require.Contains(t, said.Message, "the last 24 hours stay")
			require.Contains(t, said.Hint, "24 hours past or more")
		}
	}
	names := partitions(t, env)
	require.Contains(t, names, roomtest.Month(time.Now()))
}

// Outcomes of no month lie in the default partition, move when their month is
// made, and go when they are old. A month with too many of them stays there.
func TestJanitorAndStrays(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	job := roomtest.Enqueue(t, env)
	roomtest.Outcome(t, env, job, "succeeded", "", "", roomtest.InMonth(5))
	roomtest.Outcome(t, env, job, "succeeded", "", "", roomtest.InMonth(-30))
	roomtest.Outcome(t, env, job, "succeeded", "", "", time.Now())
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))
	attempts, err := env.Attempts(context.Background(), job.UID)
	require.NoError(t, err)
	require.Len(t, attempts, 3, "wherever they lie")

	roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', $1)`, roomtest.InMonth(5))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.`+roomtest.Month(roomtest.InMonth(5))))
	swept := roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, 1, swept.Strays)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))

	roomtest.Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), $1, 1, 'note', 1, 'failed', $2, $2 FROM generate_series(1, 10001)`, job.UID, roomtest.InMonth(-40))
	require.Zero(t, roomtest.Count(t, env, `SELECT count(headgate.add_part('outcomes', 'month', $1))`, roomtest.InMonth(-40)))
	swept = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{Batch: 3000}))
	require.Equal(t, 10_001, swept.Strays, "in batches")
}

// Keys, workers and suspects past their time are deleted, younger ones are not.
func TestJanitorDeletes(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	job := roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `
INSERT INTO headgate.idempotency_keys (scope, key, kind, args_hash, fields, job_uid, created_at)
SELECT gen_random_uuid(), 'k' || n, 'note', '', '{}', gen_random_uuid(), now() - CASE WHEN n <= 25 THEN interval '30 days 1 minute' ELSE interval '29 days' END
FROM generate_series(1, 35) n`)
	roomtest.Do(t, env, `
INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, beat_at, reaped_at, ended_at)
SELECT gen_random_uuid(), 'w', 'h', 1, '{}', '{}', now() - interval '30 days',
       CASE WHEN n % 2 = 0 THEN now() - n * interval '1 day' END, CASE WHEN n % 2 = 1 AND n < 20 THEN now() - n * interval '1 day' END
FROM generate_series(1, 21) n`)
	roomtest.Do(t, env, `INSERT INTO headgate.suspects (job_id, job_uid, kind) VALUES ($1, $2, 'note'), (999, 'gone', 'note')`, env.RowOf(job.UID), job.UID)
	swept := roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{Batch: 10}))
	require.Equal(t, 25, swept.Keys)
	require.Equal(t, 10, roomtest.Count(t, env, `SELECT count(*) FROM headgate.idempotency_keys`))
	require.Equal(t, 14, swept.Workers-roomtest.Count(t, env, `SELECT count(*) FROM headgate.workers WHERE coalesce(reaped_at, ended_at) < now() - interval '7 days'`))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.workers WHERE reaped_at IS NULL AND ended_at IS NULL`), "one alive stays, however long it is silent")
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.suspects`))
}

// A cancelled job whose worker does not answer gets its tombstone unasked, once,
// also if another River client asked for the cancellation.
func TestJanitorBuriesCancelled(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	ours, theirs, young, odd, running := roomtest.Enqueue(t, env), roomtest.Enqueue(t, env), roomtest.Enqueue(t, env), roomtest.Enqueue(t, env), roomtest.Enqueue(t, env)
	for _, job := range []jobs.EnqueueResult{ours, theirs, young, odd, running} {
		roomtest.RunUnder(t, env, env.RowOf(job.UID))
	}
	for _, job := range []jobs.EnqueueResult{ours, young} {
		_, err := env.Client.Cancel(ctx, job.UID, nil)
		require.NoError(t, err)
	}
	roomtest.Age(t, env, env.RowOf(ours.UID))
	roomtest.Do(t, env, `UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' WHERE id = $1`, env.RowOf(theirs.UID))
	roomtest.Do(t, env, `UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "never"}' WHERE id = $1`, env.RowOf(odd.UID))
	j := roomtest.Janitor(t, env, retention.Config{})
	require.Equal(t, 2, roomtest.Sweep(t, j).Tombstones)
	require.Zero(t, roomtest.Sweep(t, j).Tombstones)
	for _, job := range []jobs.EnqueueResult{ours, theirs} {
		stone := roomtest.JobOf(t, env, roomtest.JobOf(t, env, job.UID).Tombstone)
		require.Contains(t, string(stone.Args), `"uid": "`+job.UID+`"`)
	}
	require.Empty(t, roomtest.JobOf(t, env, young.UID).Tombstone)
}

// Many janitors at once do each piece of work once, and without an error; one
// that does not get the lock does nothing.
func TestJanitorsShareTheWork(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for n := 1; n <= monthsAhead; n++ {
		roomtest.Do(t, env, `DROP TABLE IF EXISTS headgate.`+roomtest.Month(roomtest.InMonth(n)))
	}
	roomtest.Do(t, env, `
INSERT INTO headgate.idempotency_keys (scope, key, kind, args_hash, fields, job_uid, created_at)
SELECT gen_random_uuid(), 'k', 'note', '', '{}', gen_random_uuid(), now() - interval '31 days' FROM generate_series(1, 500)`)
	job := roomtest.Enqueue(t, env)
	roomtest.RunUnder(t, env, env.RowOf(job.UID))
	_, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	roomtest.Age(t, env, env.RowOf(job.UID))

	held, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = held.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, retention.Lock)
	require.NoError(t, err)
	require.Zero(t, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})))
	require.NoError(t, held.Rollback(ctx))

	var mu sync.Mutex
	var all retention.Swept
	for all.Keys < 500 || len(all.Made) < monthsAhead || all.Tombstones < 1 { // a pass leaves what another is at
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				j, err := retention.New(retention.Config{Pool: env.Pool, Selectors: env.Schedules.Templates, Logger: env.Log, Batch: 50})
				if err != nil {
					t.Error(err)
					return
				}
				swept, err := j.RunOnce(ctx)
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
	env := roomtest.Setup(t)
	roomtest.Do(t, env, `DROP TABLE IF EXISTS headgate.`+roomtest.Month(roomtest.InMonth(2)))
	j := roomtest.Janitor(t, env, retention.Config{})
	require.NoError(t, j.Stop(t.Context()))
	require.NoError(t, j.Start(t.Context()))
	require.ErrorContains(t, j.Start(t.Context()), "the janitor: it runs already")
	defer func() { require.NoError(t, j.Stop(context.Background())) }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(fmt.Sprint(partitions(t, env)), roomtest.Month(roomtest.InMonth(2))) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the janitor does not work")
		}
	}
	require.NoError(t, j.Stop(t.Context()))
	require.NoError(t, j.Stop(t.Context()))
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for says, cfg := range map[string]retention.Config{
		`HistoryRetention "1h0m0s": give 24h or more`: {HistoryRetention: time.Hour},
		`Every "-1s": give a second or more`:          {Every: -time.Second},
		`Batch "-1"`:                                  {Batch: -1},
	} {
		cfg.Pool, cfg.Selectors = env.Pool, env.Schedules.Templates
		_, err := retention.New(cfg)
		require.ErrorContains(t, err, says)
	}
	for says, cfg := range map[string]retention.Config{"Pool is missing": {Selectors: env.Schedules.Templates}, "Selectors is missing": {Pool: env.Pool}} {
		_, err := retention.New(cfg)
		require.ErrorContains(t, err, says)
	}
}

// What claiming leaves of those who are gone goes, in batches; all else stays.
func TestJanitorPrunes(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	alive, gone, frozen := uuid.NewString(), uuid.NewString(), uuid.NewString()
	cfg := env.Pool.Config().ConnConfig.Copy()
	cfg.RuntimeParams["application_name"] = "frozen-session"
	session, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, session.Close(context.Background())) }()
	roomtest.Register(t, env, frozen, []string{"note"}, []string{"default"})
	roomtest.Register(t, env, alive, []string{"note"}, []string{"default"})
	roomtest.Register(t, env, gone, []string{"note"}, []string{"default"})
	roomtest.Do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, wake_at, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', lane, 'note', active, wake_at, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1
FROM (SELECT id::text FROM headgate.tenants UNION SELECT id::text FROM headgate.databases UNION SELECT '' ) k (lane), (VALUES (false, NULL::timestamptz)) s (active, wake_at)
UNION ALL SELECT 'default', gen_random_uuid()::text, 'note', true, NULL, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1
UNION ALL SELECT 'default', gen_random_uuid()::text, 'note', false, now(), 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1`)
	kept := roomtest.Count(t, env, `SELECT count(*) FROM headgate.lanes`)
	roomtest.Do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', CASE WHEN i = 1 THEN 'odd' ELSE gen_random_uuid()::text END, 'note', false, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1 FROM generate_series(1, 7) i`)
	roomtest.Do(t, env, `INSERT INTO headgate.lane_rates VALUES ('a', now() - interval '25 hours'), ('b', now() - interval '23 hours'), ('c', now() + interval '1 hour')`)
	roomtest.Do(t, env, `INSERT INTO headgate.pauses (scope, target, until) VALUES ('kind', 'a', now() - interval '31 days'), ('kind', 'b', now() - interval '29 days'), ('kind', 'c', NULL)`)
	roomtest.Do(t, env, `INSERT INTO headgate.hands SELECT incarnation, '{}'::jsonb, false FROM headgate.workers UNION ALL SELECT gen_random_uuid(), '{}', false`)
	roomtest.Do(t, env, `ALTER TABLE headgate.workers DISABLE TRIGGER lanes_worker_gone`) // as if it had come too early
	roomtest.Do(t, env, `UPDATE headgate.workers SET ended_at = now() WHERE incarnation = $1`, gone)
	roomtest.Do(t, env, `UPDATE headgate.workers SET reaped_at = now() WHERE incarnation = $1`, frozen)
	roomtest.Do(t, env, `UPDATE headgate.hands SET dead = true, hand = '{"linger": 60000, "session": "frozen-session"}' WHERE incarnation = $1`, frozen)

	j := roomtest.Janitor(t, env, retention.Config{Batch: 3})
	swept := roomtest.Sweep(t, j)
	require.Equal(t, [4]int{7, 1, 1, 2}, [4]int{swept.Lanes, swept.Rates, swept.Pauses, swept.Hands})
	require.Equal(t, kept, roomtest.Count(t, env, `SELECT count(*) FROM headgate.lanes`))
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.lane_rates`))
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.pauses`))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.hands WHERE incarnation = $1`, alive))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.hands WHERE incarnation = $1`, frozen), "its sessions are still there")
	roomtest.Do(t, env, `INSERT INTO headgate.lane_rates VALUES ('a', now() - interval '25 hours')`)
	require.Zero(t, roomtest.Sweep(t, j).Rates, "it is hourly work")
	require.Equal(t, 1, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Rates)
}

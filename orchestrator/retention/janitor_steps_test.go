package retention_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// A piece of the janitor's work that fails, or waits for what others have locked,
// is named, and keeps nothing else from being done.
func TestAFailingStepStopsNoOther(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	roomtest.Do(t, env, `INSERT INTO headgate.pauses (scope, target, paused_by, note, until) VALUES ('kind', 'old', '', '', now() - interval '40 days')`)
	roomtest.Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), gen_random_uuid(), i, 'note', 1, 'succeeded', now() - make_interval(secs => i), now() FROM generate_series(1, 100) i`)
	roomtest.Do(t, env, `ALTER TABLE headgate.lane_rates RENAME TO lane_rates_of_yesterday`)
	release := roomtest.Locked(t, env, `LOCK TABLE headgate.idempotency_keys IN ACCESS EXCLUSIVE MODE`)
	t.Cleanup(release)
	swept, err := roomtest.Janitor(t, env, retention.Config{}).RunOnce(context.Background())
	require.ErrorContains(t, err, "deleting old rates: ")
	require.ErrorContains(t, err, "renewing the idempotency keys of jobs that have not ended: ")
	require.ErrorContains(t, err, "another transaction has kept what this one needs for more than 1s")
	require.Equal(t, 1, swept.Pauses)
	require.InDelta(t, 95, float64(roomtest.Count(t, env, `SELECT round(p95) FROM headgate.durations WHERE kind = 'note'`)), 1)
}

// Of a job whose tombstone cannot be written only that one is left.
func TestATombstoneThatFailsIsAlone(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	var bad string
	for i := range 3 {
		job := roomtest.Enqueue(t, env)
		roomtest.PutInto(t, env, env.RowOf(job.UID), "running")
		roomtest.Do(t, env, `UPDATE river_job SET metadata = metadata || jsonb_build_object('cancel_attempted_at', now() - interval '5 minutes') WHERE id = $1`, env.RowOf(job.UID))
		if i == 1 {
			bad = job.UID
		}
	}
	roomtest.OnInsert(t, env, `IF NEW.kind = 'headgate.tombstone' AND NEW.args::text LIKE '%`+bad+`%' THEN RAISE EXCEPTION 'not this one'; END IF;`)
	swept, err := roomtest.Janitor(t, env, retention.Config{}).RunOnce(context.Background())
	require.ErrorContains(t, err, bad)
	require.ErrorContains(t, err, "not this one")
	require.Equal(t, 2, swept.Tombstones)
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE kind = 'headgate.tombstone'`))
}

// A janitor that has stopped while it held the lock keeps the others from working
// for seconds. It is played by a session that has taken the lock, and says nothing more.
func TestAStoppedJanitorKeepsItsLockForSeconds(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.Do(t, env, `INSERT INTO headgate.pauses (scope, target, paused_by, note, until) VALUES ('kind', 'old', '', '', now() - interval '40 days')`)
	stopped, err := central.Begin(ctx, env.Pool, retention.Limits)
	require.NoError(t, err)
	defer func() { _ = stopped.Rollback(ctx) }()
	_, err = stopped.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, retention.Lock)
	require.NoError(t, err)
	j := roomtest.Janitor(t, env, retention.Config{PruneEvery: time.Millisecond})
	require.Zero(t, roomtest.Sweep(t, j).Pauses)
	require.Eventually(t, func() bool { return roomtest.Sweep(t, j).Pauses == 1 }, time.Minute, 100*time.Millisecond)
}

// How long jobs take is computed once an hour, whatever the number of janitors, and
// kinds that do not run any more are forgotten.
func TestDurationsAreComputedOnceAnHour(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ran := func(kind, took, ago string) {
		roomtest.Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
VALUES (gen_random_uuid(), gen_random_uuid(), 1, $1, 1, 'succeeded', now() - $3::text::interval - $2::text::interval, now() - $3::text::interval)`, kind, took, ago)
	}
	known := func() int { return roomtest.Count(t, env, `SELECT coalesce(sum(p95), 0)::int FROM headgate.durations`) }
	ran("note", "10 seconds", "1 day")
	ran("old", "1 hour", "15 days")
	_ = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, 10, known())
	ran("more", "30 seconds", "1 day")
	_ = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, 10, known(), "it has been computed within the hour")
	roomtest.Do(t, env, `UPDATE headgate.durations SET computed_at = now() - interval '2 hours'`)
	roomtest.Do(t, env, `INSERT INTO headgate.durations (kind, p95, computed_at) VALUES ('gone', 5, now() - interval '2 hours')`)
	_ = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, 40, known())
}

package explain_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Each figure says what the rows say, and is nothing where there is nothing.
func TestFigures(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	look := func() explain.Figures {
		t.Helper()
		f, ok, err := env.Explain.Figures(ctx, explain.FiguresParams{Schedules: []string{"nightly", "unknown"}})
		require.NoError(t, err)
		require.True(t, ok)
		return f
	}
	none := look()
	require.Zero(t, none.Workers.Alive+none.Workers.Silent+none.Quarantined+none.UnservedKinds+none.Overdue+none.Broken)
	require.Empty(t, none.Queues)
	require.Empty(t, none.Successes)
	require.Zero(t, none.Servers[0].Used)
	require.Empty(t, none.Servers[0].Broken)

	job := roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `UPDATE river_job SET scheduled_at = now() - interval '1 hour'`)
	roomtest.Do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT j.queue, headgate.lane(j.metadata), j.kind, true, 0, 1, d.server_id, d.id, false, 1
FROM river_job j, headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id WHERE t.slug = 'acme'`)
	roomtest.Do(t, env, `INSERT INTO headgate.lane_groups SELECT DISTINCT queue, server_id, kind FROM headgate.lanes`)
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{})
	roomtest.Do(t, env, `UPDATE headgate.schedules SET created_at = now() - interval '3 days'`)
	roomtest.CreateWith(t, env, "late", "0 3 * * *", schedule.Policy{})
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now() - interval '2 hours' WHERE name = 'late'`)
	roomtest.CreateWith(t, env, "stopped", "0 3 * * *", schedule.Policy{})
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = NULL, error = 'no such kind' WHERE name = 'stopped'`)
	roomtest.Do(t, env, `INSERT INTO headgate.suspects (job_id, job_uid, kind, quarantined_at) VALUES (1, 'a', 'note', now()), (2, 'b', 'note', NULL)`)
	roomtest.Do(t, env, `INSERT INTO headgate.breakers (scope, id, until) SELECT 'server', id, '2099-01-01Z' FROM headgate.servers`)
	roomtest.Do(t, env, `INSERT INTO headgate.breakers (scope, id, until, class) SELECT 'database', id, '2099-01-01Z', 'unprotected' FROM headgate.databases LIMIT 1`)
	f := look()
	require.Equal(t, 1, f.UnservedKinds, "no worker has the waiting job's kind")
	require.Len(t, f.Queues, 1)
	require.Equal(t, "default", f.Queues[0].Name)
	require.Equal(t, 1, f.Queues[0].Waiting)
	require.InDelta(t, time.Hour.Seconds(), f.Queues[0].Oldest.Seconds(), 600)
	require.Equal(t, 1, f.Overdue)
	require.InDelta(t, 2*time.Hour.Seconds(), f.OverdueFor.Seconds(), 600)
	require.Equal(t, 1, f.Broken)
	require.Equal(t, 1, f.Quarantined)
	require.Equal(t, map[string]int{"unreachable": 1, "unprotected": 1}, f.Servers[0].Broken)
	require.InDelta(t, 72*time.Hour.Seconds(), f.Successes["nightly"].Seconds(), 600, "since it was created")

	roomtest.Holds(t, env, `{"servers": {"S": {"jobs": 2, "conns": 5}}}`)
	roomtest.Register(t, env, "00000000-0000-7000-8000-000000000001", []string{"note"}, []string{"default"})
	roomtest.Do(t, env, `UPDATE headgate.workers SET beat_at = now() - interval '1 day' WHERE incarnation = '00000000-0000-7000-8000-000000000001'`)
	roomtest.Outcome(t, env, job, "succeeded", "", "", time.Now().Add(-time.Hour))
	roomtest.Do(t, env, `INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, decided_at, job_uid)
		SELECT id, now(), now(), 'fired', now(), $1::text::uuid FROM headgate.schedules WHERE name = 'nightly'`, job.UID)
	f = look()
	require.Zero(t, f.UnservedKinds)
	require.Equal(t, 1, f.Workers.Alive)
	require.Equal(t, 1, f.Workers.Silent)
	require.Equal(t, 5, f.Servers[0].Used)
	require.InDelta(t, time.Hour.Seconds(), f.Successes["nightly"].Seconds(), 600)
}

// While one process looks another one does not, and waits for nothing.
func TestOneProcessLooksAtFigures(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, explain.OneLooksSQL, pgx.QueryExecModeExec)
	require.NoError(t, err)
	none, ok, err := env.Explain.Figures(ctx, explain.FiguresParams{})
	require.NoError(t, err)
	require.False(t, ok)
	require.Nil(t, none.Missing, "it has not looked")
	require.NoError(t, tx.Rollback(ctx))
	found, ok, err := env.Explain.Figures(ctx, explain.FiguresParams{})
	require.NoError(t, err)
	require.True(t, ok)
	require.NotNil(t, found.Missing)
}

// A row that nobody can read, and a figure that takes too long, take none of the others
// with them.
func TestAFigureThatFailsIsMissing(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.Enqueue(t, env)
	roomtest.Holds(t, env, `{"servers": {"S": {"jobs": "many", "conns": 5}}}`)
	roomtest.Holds(t, env, `{"servers": ["S"]}`)
	f, ok, err := env.Explain.Figures(ctx, explain.FiguresParams{})
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, f.Missing)
	require.Equal(t, 5, f.Servers[0].Used)
	release := roomtest.Locked(t, env, `LOCK TABLE headgate.suspects IN ACCESS EXCLUSIVE MODE`)
	f, ok, err = env.Explain.Figures(ctx, explain.FiguresParams{})
	release()
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, f.Missing, 1)
	require.ErrorContains(t, f.Missing[explain.FigureCounts], "lock timeout")
	require.Len(t, f.Queues, 1)
}

// Queues that strangers have filled, whatever their names, hide none that a worker serves.
func TestManyQueuesHideNone(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `INSERT INTO river_job (kind, queue, args, max_attempts) SELECT 'note', 'a' || n, '{}', 5 FROM generate_series(1, 1000) AS n`)
	names := func() (all []string) {
		f, ok, err := env.Explain.Figures(context.Background(), explain.FiguresParams{})
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, f.Missing)
		for _, q := range f.Queues {
			all = append(all, q.Name)
		}
		return all
	}
	require.NotContains(t, names(), "default", "the control: nobody serves it")
	roomtest.Register(t, env, "00000000-0000-7000-8000-000000000001", []string{"note"}, []string{"default"})
	require.Contains(t, names(), "default")
	require.Len(t, names(), 1001)
}

package explain_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Nobody has declared them dead, because nobody is left who could: what people read says
// so all the same.
func TestWorkersWithoutASignOfLifeAreSilent(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	running, waiting := roomtest.Enqueue(t, env), roomtest.Enqueue(t, env)
	incarnation := roomtest.RunUnder(t, env, env.RowOf(running.UID))
	states := func() (list []explain.WorkerState) {
		workers, _, err := env.Explain.Workers(ctx, jobs.Page{})
		require.NoError(t, err)
		for _, w := range workers {
			list = append(list, w.State)
		}
		return list
	}
	codes := func(facts []explain.Fact) (list []explain.Code) {
		for _, f := range facts {
			list = append(list, f.Code)
		}
		return list
	}
	require.Equal(t, []explain.WorkerState{explain.WorkerAlive}, states())
	roomtest.Do(t, env, `UPDATE headgate.workers SET beat_at = now() - interval '29 seconds'`)
	require.Equal(t, []explain.WorkerState{explain.WorkerAlive}, states(), "DeadAfter is 30 seconds")
	roomtest.Do(t, env, `UPDATE headgate.workers SET beat_at = now() - interval '31 seconds'`)
	require.Equal(t, []explain.WorkerState{explain.WorkerSilent}, states())
	roomtest.Do(t, env, `UPDATE headgate.workers SET beat_at = '2026-11-01 12:00:00Z'`)
	require.Equal(t, []explain.WorkerState{explain.WorkerSilent}, states())
	require.Contains(t, roomtest.FactsOf(t, env, running.UID), "that worker has given no sign of life since 2026-11-01 12:00:00 UTC")
	require.Contains(t, roomtest.FactsOf(t, env, waiting.UID), "no worker gives a sign of life: 1 worker is silent, the last since 2026-11-01 12:00:00 UTC → see that their processes run")
	tenant, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Contains(t, codes(tenant.Facts), explain.CodeWorkersSilent)
	health, err := env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, 0, health.Workers.Alive)
	require.Equal(t, 1, health.Workers.Silent)
	require.Equal(t, "2026-11-01", health.Workers.LastAt.UTC().Format("2006-01-02"))

	// A clock that was set back is no sign of life either.
	roomtest.Do(t, env, `UPDATE headgate.workers SET beat_at = now() + interval '1 hour'`)
	require.Equal(t, []explain.WorkerState{explain.WorkerSilent}, states())

	// A silent one that knows the kind takes no work, beside one that lives and does not know it.
	other := uuid.NewString()
	roomtest.Register(t, env, other, []string{"other"}, []string{"default"})
	explained, err := env.Explain.Explain(ctx, waiting.UID)
	require.NoError(t, err)
	require.Contains(t, codes(explained.Facts), explain.CodeNoWorkerKind)
	roomtest.Do(t, env, `UPDATE headgate.workers SET ended_at = now() WHERE incarnation = $1`, other)

	// One that lives takes the work, and what the silent one says of its claims is old.
	roomtest.Do(t, env, `UPDATE headgate.workers SET claims = '{"failing": [{"queue": "default", "since": "2026-11-01T12:00:00Z", "times": 9, "error": "old"}]}'`)
	roomtest.Register(t, env, uuid.NewString(), []string{"note"}, []string{"default"})
	require.NotContains(t, roomtest.FactsOf(t, env, waiting.UID), "silent")
	require.NotContains(t, roomtest.FactsOf(t, env, waiting.UID), "old")
	roomtest.Do(t, env, `UPDATE headgate.workers SET dead_after = '2 hours', beat_at = now() - interval '1 hour' WHERE incarnation = $1`, incarnation)
	require.Contains(t, roomtest.FactsOf(t, env, waiting.UID), "claims of queue default fail", "its DeadAfter is two hours")
}

// Claims that step over an owner whose rows are locked concern no other.
func TestALockOnATenantsRowsIsToldOfThatTenant(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	acme := roomtest.Enqueue(t, env)
	brick, err := env.Client.Enqueue(ctx, "brick", roomtest.Note{Text: "x"}, nil)
	require.NoError(t, err)
	incarnation := uuid.NewString()
	roomtest.Register(t, env, incarnation, []string{"note"}, []string{"default"})
	roomtest.Do(t, env, `
UPDATE headgate.workers SET claims = jsonb_build_object('failing', jsonb_build_array(jsonb_build_object(
    'queue', 'default', 'since', now(), 'times', 5, 'error', 'rows of its lane are locked', 'owners', (SELECT jsonb_agg(id) FROM headgate.tenants WHERE slug = 'acme'))))`)
	require.Contains(t, roomtest.FactsOf(t, env, acme.UID), "rows of its lane are locked")
	require.NotContains(t, roomtest.FactsOf(t, env, brick.UID), "locked")
}

// What holds a tenant's jobs is told though none is available, and so is work that no
// worker has looked for.
func TestExplainTenantTellsAllThatWaits(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	e, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, "nothing of tenant acme waits", e.Facts[len(e.Facts)-1].Fact)
	for _, state := range []string{"scheduled", "scheduled", "retryable", "scheduled"} {
		roomtest.PutInto(t, env, env.RowOf(roomtest.Enqueue(t, env).UID), state)
	}
	roomtest.Do(t, env, `
UPDATE river_job SET scheduled_at = '2026-12-01 06:30:00Z', metadata = metadata || '{"held": {"class": "auth_failed", "since": "2026-12-01T06:00:00Z", "times": 2}}'
WHERE id IN (SELECT id FROM river_job WHERE state = 'scheduled' ORDER BY id LIMIT 2)`)
	roomtest.Do(t, env, `UPDATE river_job SET metadata = metadata || '{"held": 7}', scheduled_at = '2026-12-02Z' WHERE state = 'scheduled' AND NOT metadata ? 'held'`)
	roomtest.PutInto(t, env, env.RowOf(roomtest.Enqueue(t, env).UID), "retryable")
	elsewhere, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "x"}, &jobs.EnqueueOpts{Queue: "nobodys"})
	require.NoError(t, err)
	_, err = env.Client.Enqueue(ctx, "brick", roomtest.Note{Text: "x"}, &jobs.EnqueueOpts{Queue: "other"})
	require.NoError(t, err)
	roomtest.Register(t, env, uuid.NewString(), []string{"note"}, []string{"default"})

	e, err = env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.ElementsMatch(t, []explain.TenantWork{
		{Queue: "nobodys", Kind: "note", Waiting: 1}, {Queue: "default", Kind: "note", Held: 2, Failed: 2, Scheduled: 1},
	}, e.Work)
	require.Equal(t, "2 jobs are held: the last attempt ended as auth_failed, first 2026-12-01 06:00:00 UTC, and used none; the next is tried 2026-12-01 06:30:00 UTC", e.Facts[0].Fact)
	require.Equal(t, explain.CodeHeld, e.Facts[0].Code)
	require.Contains(t, e.Facts[0].Next, "`headgate database login shared`")
	require.Contains(t, e.Facts[1].Fact, "2 jobs are to be tried again after a failure; the next ")
	require.Contains(t, e.Facts[2].Fact, "1 job is scheduled for later; the next 2026-12-02 00:00:00 UTC")
	require.Equal(t, "no live worker works queue nobodys (1 alive)", e.Facts[3].Fact)

	health, err := env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Len(t, health.Queues, 2)
	require.Equal(t, "nobodys", health.Queues[0].Name)
	require.Equal(t, roomtest.JobOf(t, env, elsewhere.UID).ScheduledAt.Unix(), health.Queues[0].Since.Unix())
	require.Empty(t, health.Kinds)
}

// A kind without a worker is found by what waits and by what is scheduled.
func TestHealthFindsKindsWithoutAWorker(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	lanes(t, env, 3)
	roomtest.Register(t, env, uuid.NewString(), []string{"tidy"}, []string{"default"})
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{})
	health, err := env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, []explain.Unserved{{Name: "note", Schedules: 1}}, health.Kinds, "the lanes have no jobs")
	require.Equal(t, 1, health.Schedule.Count)
	require.Zero(t, health.Schedule.Overdue)

	job := roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now() - interval '90 seconds'`)
	health, err = env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Len(t, health.Kinds, 1)
	require.Equal(t, 1, health.Kinds[0].Schedules)
	require.Equal(t, roomtest.JobOf(t, env, job.UID).ScheduledAt.Unix(), health.Kinds[0].Since.Unix())
	require.Equal(t, 1, health.Schedule.Overdue)
	require.Empty(t, health.Pairs, "it is told as a kind")

	// Workers that know the kind, and others that claim from its queue, are none that do both.
	roomtest.Register(t, env, uuid.NewString(), []string{"note"}, []string{"elsewhere"})
	health, err = env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Empty(t, health.Kinds)
	require.Len(t, health.Pairs, 1)
	require.Equal(t, "note in default", health.Pairs[0].Kind+" in "+health.Pairs[0].Queue)
	roomtest.Register(t, env, uuid.NewString(), []string{"note"}, []string{"default"})
	health, err = env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Empty(t, health.Kinds)
	require.Empty(t, health.Pairs)
}

// The history tells of a job without a row, by the same call.
func TestAJobThatHasLeftTheQueueIsShown(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job := roomtest.Enqueue(t, env)
	roomtest.PutInto(t, env, env.RowOf(job.UID), "completed")
	roomtest.Do(t, env, `UPDATE headgate.outcomes SET tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'acme')`)
	roomtest.Do(t, env, `DELETE FROM river_job`)
	shown := roomtest.JobOf(t, env, job.UID)
	require.True(t, shown.Gone)
	require.Equal(t, jobs.Succeeded, shown.State)
	require.Equal(t, "acme", shown.Tenant)
	require.Equal(t, "note", shown.Kind)
	require.Len(t, shown.Attempts, 1)
	_, err := env.Client.Job(ctx, uuid.NewString())
	require.ErrorIs(t, err, jobs.ErrUnknownJob)
	require.ErrorContains(t, err, "neither the queue nor the history")
}

// A row that somebody has locked is told with the session, of jobs and of schedules.
func TestWhoHasLockedARowIsTold(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job, other := roomtest.Enqueue(t, env), roomtest.Enqueue(t, env)
	s := roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{})
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now() - interval '2 minutes', next_nominal_at = '2026-11-20 02:00:00Z', answered_at = '2026-11-19 12:00:00Z'`)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, `SELECT FROM river_job WHERE id = $1 FOR UPDATE`, env.RowOf(job.UID))
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT FROM headgate.schedules FOR UPDATE`)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT pg_sleep(1.1)`) // younger ones may be our own
	require.NoError(t, err)
	session := fmt.Sprintf("session %d of ", tx.Conn().PgConn().PID())
	require.Contains(t, roomtest.FactsOf(t, env, job.UID), "its row is locked by "+session)
	require.NotContains(t, roomtest.FactsOf(t, env, other.UID), "locked")
	tenant, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Contains(t, tenant.Facts[0].Fact, "a row of its work is locked by "+session)
	require.Equal(t, fmt.Sprintf("end that session's transaction, or the session: SELECT pg_terminate_backend(%d)", tx.Conn().PgConn().PID()), tenant.Facts[0].Next)
	answers, err := env.Schedules.Why(ctx, schedule.Key{Tenant: "acme", Name: s.Name}, time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC))
	require.NoError(t, err)
	require.Contains(t, answers[0].Because, "its schedule's row is locked by "+session)
	health, err := env.Explain.Health(ctx)
	require.NoError(t, err)
	require.Contains(t, health.Schedule.LockedBy, session)
}

// What runs is counted in the queue where it runs.
func TestATenantsRunningJobsAreCountedByQueue(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for range 2 {
		roomtest.RunUnder(t, env, env.RowOf(roomtest.Enqueue(t, env).UID))
	}
	_, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "x"}, &jobs.EnqueueOpts{Queue: "other"})
	require.NoError(t, err)
	e, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	running := map[string]int{}
	for _, w := range e.Work {
		running[w.Queue] = w.Running
	}
	require.Equal(t, map[string]int{"default": 2, "other": 0}, running)
}

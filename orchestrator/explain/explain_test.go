package explain_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// Why is this job not running? One case for each answer.
func TestExplain(t *testing.T) {
	t.Parallel()
	worker := func(t *testing.T, env *jobstest.Env, kinds, queues []string) {
		roomtest.Register(t, env, uuid.NewString(), kinds, queues)
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult)
		says []string
		not  []string
	}{
		"no worker": {
			says: []string{"it is waiting for a worker; due ", "no worker is alive → start a program that registers kind note"},
		},
		"draining": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				worker(t, env, []string{"note"}, []string{"default"})
				roomtest.Do(t, env, `UPDATE headgate.workers SET draining = true`)
			},
			says: []string{"all workers that are alive (1) are stopping and take nothing more"},
		},
		"dead workers do not count": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				worker(t, env, []string{"note"}, []string{"default"})
				worker(t, env, []string{"note"}, []string{"default"})
				roomtest.Do(t, env, `UPDATE headgate.workers SET reaped_at = now() WHERE incarnation = (SELECT min(incarnation::text)::uuid FROM headgate.workers)`)
				roomtest.Do(t, env, `UPDATE headgate.workers SET ended_at = now() WHERE reaped_at IS NULL`)
			},
			says: []string{"no worker is alive"},
		},
		"kind": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				worker(t, env, []string{"other"}, []string{"default"})
			},
			says: []string{"no live worker knows kind note (1 alive)"}, not: []string{"queue default"},
		},
		"queue": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				worker(t, env, []string{"note"}, []string{"other"})
			},
			says: []string{"no live worker works queue default (1 alive)"}, not: []string{"knows kind"},
		},
		"kind here, queue there": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				worker(t, env, []string{"note"}, []string{"other"})
				worker(t, env, []string{"other"}, []string{"default"})
			},
			says: []string{"no live worker both knows kind note and works queue default"},
		},
		"its turn": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				worker(t, env, []string{"note"}, []string{"default"})
				for range 3 {
					roomtest.Enqueue(t, env)
				}
				roomtest.Do(t, env, `UPDATE river_job SET scheduled_at = scheduled_at - interval '1 hour' WHERE id > (SELECT min(id) FROM river_job)`)
			},
			says: []string{"it waits its turn in queue default; before it: 3 jobs of its own lane"}, not: []string{"no live worker", "no worker"},
		},
		"not due": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.Do(t, env, `UPDATE headgate.tenants SET timezone = 'Asia/Tokyo'`)
				roomtest.Do(t, env, `UPDATE river_job SET state = 'scheduled', scheduled_at = '2099-01-01 01:30:00+00'`)
			},
			says: []string{"it is scheduled; due 2099-01-01 10:30:00 Asia/Tokyo = 2099-01-01 01:30:00 UTC → `headgate job retry"},
			not:  []string{"come before it"},
		},
		"failed": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.PutInto(t, env, env.RowOf(job.UID), "retryable")
				roomtest.Outcome(t, env, job, "failed", jobs.ClassJobError, "no such invoice", time.Now())
			},
			says: []string{"attempt 1 of 25 failed; the next one is due ", "its last attempt ended as job_error: no such invoice → "},
		},
		"arguments that do not fit": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.PutInto(t, env, env.RowOf(job.UID), "retryable")
				roomtest.Outcome(t, env, job, "failed", jobs.ClassBadArgs, "text: is a number", time.Now())
			},
			says: []string{"` runs it now with the same arguments, which only another version of the kind takes; else enqueue it anew"},
		},
		"held": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.PutInto(t, env, env.RowOf(job.UID), "scheduled")
				roomtest.Outcome(t, env, job, "failed", jobs.ClassPanic, "oh", time.Now().Add(-time.Hour))
				for i := range 3 {
					roomtest.Outcome(t, env, job, "snoozed", jobs.ClassUnreachable, "connection refused", time.Now().Add(time.Duration(i-10)*time.Minute))
				}
			},
			says: []string{"its last 3 attempts ended as unreachable: connection refused → see that the server runs"},
		},
		"put off": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.PutInto(t, env, env.RowOf(job.UID), "scheduled")
				roomtest.Outcome(t, env, job, "snoozed", "", "snoozed for 1h0m0s", time.Now())
			},
			says: []string{"its handler put it off; due ", "` runs it now"}, not: []string{"ended as"},
		},
		"an erasure that waits": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.PutInto(t, env, env.RowOf(job.UID), "scheduled")
				roomtest.Outcome(t, env, job, "snoozed", "", "2 jobs of the tenant have not ended", time.Now())
				_, err := env.Pool.Exec(context.Background(), `UPDATE river_job SET kind = 'headgate.erase' WHERE id = $1`, env.RowOf(job.UID))
				require.NoError(t, err)
			},
			says: []string{"its handler put it off; due ", "` says which jobs of the tenant it waits for"}, not: []string{"job retry"},
		},
		"tenant suspended": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				require.NoError(t, env.Catalog.SetStatus(context.Background(), "acme", catalog.Suspended))
			},
			says: []string{"tenant acme is suspended; its work waits → `headgate tenant resume acme` makes the tenant active; or cancel its waiting jobs: `headgate tenant suspend acme --waiting cancel`"},
		},
		"tenant archived, and what waits is cancelled": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				_, err := env.Catalog.Editor().SetStatus(context.Background(), []string{"acme"}, catalog.StatusChange{To: catalog.Archived, Waiting: catalog.CancelWaiting})
				require.NoError(t, err)
			},
			says: []string{"tenant acme is archived; its waiting jobs are being cancelled → `headgate tenant resume acme` makes the tenant active; until then `headgate serve` cancels its waiting jobs"},
			not:  []string{"its work waits"},
		},
		"tenant moving": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				require.NoError(t, env.Catalog.SetStatus(context.Background(), "acme", catalog.Moving))
			},
			says: []string{"tenant acme is being moved"},
		},
		"server down": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				roomtest.Do(t, env, `UPDATE headgate.servers SET state = 'down'`)
			},
			says: []string{"server " + jobstest.Server + ", where its database lies, is down"},
		},
		"queue paused": {
			make: func(t *testing.T, env *jobstest.Env, _ jobs.EnqueueResult) {
				roomtest.Do(t, env, `INSERT INTO river_queue (name, paused_at, updated_at) VALUES ('default', now(), now())`)
			},
			says: []string{"queue default is paused in River → `headgate resume queue default`"},
		},
		"suspect": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.Do(t, env, `INSERT INTO headgate.suspects (job_id, job_uid, kind) VALUES ($1, $2, 'note')`, env.RowOf(job.UID), job.UID)
			},
			says: []string{"it is under suspicion: workers died while it ran (1)"},
		},
		"unconfirmed": {
			make: func(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult) {
				roomtest.PutInto(t, env, env.RowOf(job.UID), "pending")
			},
			says: []string{"it is unconfirmed"}, not: []string{"worker"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			job := roomtest.Enqueue(t, env)
			if c.make != nil {
				c.make(t, env, job)
			}
			facts := roomtest.FactsOf(t, env, job.UID)
			for _, says := range c.says {
				require.Contains(t, facts, says)
			}
			for _, not := range c.not {
				require.NotContains(t, facts, not)
			}
		})
	}
}

// A tenant of which nothing waits is not said to have work that waits.
func TestASuspendedTenantWithoutWorkWaitsForNothing(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	job := roomtest.Enqueue(t, env)
	roomtest.PutInto(t, env, env.RowOf(job.UID), "completed")
	for status, says := range map[catalog.Status]string{catalog.Suspended: "tenant acme is suspended", catalog.Moving: "tenant acme is being moved"} {
		require.NoError(t, env.Catalog.SetStatus(context.Background(), "acme", status))
		e, err := env.Explain.ExplainTenant(context.Background(), "acme")
		require.NoError(t, err)
		require.Equal(t, says, e.Facts[0].Fact)
		require.NotContains(t, e.Facts[0].Next, "waiting")
	}
}

// Where does it run, and how far is its cancellation?
func TestExplainRunning(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job := roomtest.Enqueue(t, env)
	incarnation := roomtest.RunUnder(t, env, env.RowOf(job.UID))
	facts := roomtest.FactsOf(t, env, job.UID)
	require.Contains(t, facts, "it is running, attempt 1 of 25, on worker w-"+incarnation[:4]+" (host here, process 7)")
	e, err := env.Explain.Explain(ctx, job.UID)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), *e.Facts[0].Since, time.Minute)

	_, err = env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ana"})
	require.NoError(t, err)
	require.Contains(t, roomtest.FactsOf(t, env, job.UID), "it is being cancelled (cancelled by ana): its worker has been told and has not ended it yet → wait; after 1m0s")
	roomtest.Age(t, env, env.RowOf(job.UID))
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Contains(t, roomtest.FactsOf(t, env, job.UID), "`headgate job explain "+result.Tombstone+"`")
	roomtest.Do(t, env, `UPDATE headgate.workers SET reaped_at = now()`)
	require.Contains(t, roomtest.FactsOf(t, env, job.UID), "that worker is gone; the job is given to another within seconds")
	roomtest.Do(t, env, `DELETE FROM headgate.workers`)
	require.Contains(t, roomtest.FactsOf(t, env, job.UID), "on a worker that is not registered")
}

// How did it end, and can it be done again?
func TestExplainFinished(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for name, c := range map[string]struct {
		state, outcome string
		class          jobs.Class
		sql            string
		says           string
	}{
		"succeeded":   {state: "completed", outcome: "succeeded", says: "it has succeeded → `headgate job rerun"},
		"discarded":   {state: "discarded", outcome: "discarded", class: jobs.ClassPanic, says: "it has used up its attempts (25); the last was discarded (panic: why) → `headgate job retry"},
		"cancelled":   {state: "cancelled", outcome: "cancelled", class: jobs.ClassTenant, says: "its last attempt was cancelled (tenant: why)"},
		"by hand":     {state: "cancelled", outcome: "cancelled", sql: `UPDATE river_job SET metadata = metadata || '{"cancel_request": {"by": "ana", "at": "2026-01-01T00:00:00Z"}}' WHERE id = $1`, says: "it was cancelled by ana"},
		"tombstone":   {state: "cancelled", outcome: "cancelled", sql: `UPDATE river_job SET metadata = metadata || '{"tombstone_uid": "x"}' WHERE id = $1`, says: "stopped in its tenant's ledger → `headgate job rerun"},
		"bad args":    {state: "discarded", outcome: "discarded", class: jobs.ClassBadArgs, says: "` tries it again with the same arguments, which only another version"},
		"quarantined": {state: "discarded", outcome: "discarded", class: jobs.ClassQuarantined, says: "it is in quarantine: its worker died three times while this job alone was under suspicion → find out"},
	} {
		t.Run(name, func(t *testing.T) {
			job := roomtest.Enqueue(t, env)
			roomtest.PutInto(t, env, env.RowOf(job.UID), c.state)
			roomtest.Outcome(t, env, job, c.outcome, c.class, "why", time.Now())
			if c.sql != "" {
				roomtest.Do(t, env, c.sql, env.RowOf(job.UID))
			}
			require.Contains(t, roomtest.FactsOf(t, env, job.UID), c.says)
			roomtest.Do(t, env, `DELETE FROM river_job WHERE id = $1`, env.RowOf(job.UID))
			require.Contains(t, roomtest.FactsOf(t, env, job.UID), "its row has left the queue; its last attempt ")
		})
	}
	_, err := env.Explain.Explain(ctx, uuid.NewString())
	require.ErrorIs(t, err, jobs.ErrUnknownJob)
	for _, name := range []string{"1", "x", ""} {
		_, err := env.Explain.Explain(ctx, name)
		require.ErrorAs(t, err, new(*jobs.InputError), name)
	}
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	job := roomtest.Enqueue(t, env)
	alive := roomtest.RunUnder(t, env, env.RowOf(job.UID))
	stopped, lost, draining := uuid.NewString(), uuid.NewString(), uuid.NewString()
	for _, incarnation := range []string{stopped, lost, draining} {
		roomtest.Register(t, env, incarnation, []string{"a", "b"}, []string{"default"})
	}
	roomtest.Do(t, env, `UPDATE headgate.workers SET ended_at = now() - interval '1 hour' WHERE incarnation = $1`, stopped)
	roomtest.Do(t, env, `UPDATE headgate.workers SET reaped_at = now(), draining = true WHERE incarnation = $1`, lost)
	roomtest.Do(t, env, `UPDATE headgate.workers SET draining = true WHERE incarnation = $1`, draining)
	list, _, err := env.Explain.Workers(context.Background(), jobs.Page{})
	require.NoError(t, err)
	require.Len(t, list, 4)
	states := map[string]explain.WorkerState{}
	for i, w := range list {
		states[w.Incarnation] = w.State
		require.Equal(t, i < 2, w.ReapedAt == nil && w.EndedAt == nil, "those alive come first")
		if w.Incarnation == alive {
			require.Equal(t, 1, *w.Running)
			require.Equal(t, []string{"note"}, w.Kinds)
		} else {
			require.Zero(t, *w.Running)
		}
	}
	require.Equal(t, map[string]explain.WorkerState{
		alive: explain.WorkerAlive, stopped: explain.WorkerStopped, lost: explain.WorkerLost, draining: explain.WorkerDraining,
	}, states)
	require.Equal(t, lost, list[2].Incarnation, "then the newest of those that are gone")
}

// Whatever a job waits for that its handler did not say, explain says what to do.
func TestEveryClassHasANextStep(t *testing.T) {
	t.Parallel()
	for _, class := range []jobs.Class{
		jobs.ClassUnreachable, jobs.ClassServerFull, jobs.ClassAuthFailed, jobs.ClassReadOnly, jobs.ClassDiskFull,
		jobs.ClassWrongDatabase, jobs.ClassSchemaNewer, jobs.ClassSchemaOlder, jobs.ClassUndecryptable, jobs.ClassConflict,
		jobs.ClassTimeout, jobs.ClassConnectTimeout, jobs.ClassStatementTimeout, jobs.ClassLockTimeout, jobs.ClassEscaped, jobs.ClassUnguarded, jobs.ClassBadArgs,
		jobs.ClassNotPermitted, jobs.ClassOutput, jobs.ClassUntrusted, jobs.ClassWrongCentre,
	} {
		require.NotEmpty(t, explain.ClassStep(class), class)
	}
}

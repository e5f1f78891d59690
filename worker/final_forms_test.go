package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/worker"
)

// A job's last attempt that cannot ask the ledger does not make it a failure: an
// attempt before it may have had the effect.
func TestAJobThatMayBeDoneIsNotDiscarded(t *testing.T) {
	t.Parallel()
	env, db, tenant := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, &jobs.EnqueueOpts{MaxAttempts: 1, Timeout: time.Second})
	require.NoError(t, err)
	wakes(t, zombie(t, db, tenant.OrgID, job.UID), tenant.OrgID, job.UID)
	lose(t, env, job.UID, time.Minute)
	locked, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = locked.Rollback(ctx) }()
	_, err = locked.Exec(ctx, `LOCK TABLE headgate.ledger`)
	require.NoError(t, err)
	cfg := lockSoon(env)
	cfg.LockTimeout = time.Minute
	env.Work(cfg, ends)
	env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Class == jobs.ClassConflict })
	require.NoError(t, locked.Rollback(ctx))
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.True(t, got.Recovered)
}

// A kind that is paused, or that no worker knows any more, keeps no job cancelling:
// its tombstone is of another kind.
func TestATombstonePassesAPausedKind(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	_, err = env.Admission.Pause(ctx, admission.OfKind, Ending{}.Kind(), nil)
	require.NoError(t, err)
	lose(t, env, job.UID, time.Minute)
	_, err = env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ana"})
	require.NoError(t, err)
	env.Work(lockSoon(env), ends)
	awaitTrue(t, env, "the job is given back", `SELECT state = 'available' FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET metadata = jsonb_set(metadata, '{cancel_request,at}', to_jsonb(now() - interval '2 minutes')) WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.NotEmpty(t, result.Tombstone)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Cancelled, got.State)
	require.Contains(t, got.Message, "cancelled by ana; no attempt can have its effect any more")
	require.Zero(t, effects(t, db, job.UID))
	after, err := env.Client.Job(ctx, job.UID)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelled, after.State)
}

// The end that a worker writes for a job which its tombstone has ended comes to
// nothing.
func TestWhatATombstoneHasEndedStaysEnded(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Sum{}, nil)
	require.NoError(t, err)
	began, free := make(chan struct{}), make(chan struct{})
	env.Work(lockSoon(env), func(w *worker.Worker) {
		worker.ReadOnly(w, func(context.Context, pgx.Tx, *jobs.Job[Sum]) error {
			close(began)
			<-free // whatever its context says
			return nil
		})
	})
	receive(t, began)
	_, err = env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET metadata = jsonb_set(metadata, '{cancel_request,at}', to_jsonb(now() - interval '2 minutes')) WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Cancelled, got.State)
	require.Contains(t, got.Message, "no attempt can have its effect any more", "its tombstone's word")
	require.Equal(t, jobs.Succeeded, env.Wait(result.Tombstone).State)
	before := rowOf(t, env, env.RowOf(job.UID))
	close(free)
	later, err := env.Client.Enqueue(ctx, "acme", wire.Tombstone{UID: job.UID}, nil) // ends in the same groups
	require.NoError(t, err)
	env.Wait(later.UID)
	require.Equal(t, before, rowOf(t, env, env.RowOf(job.UID)))
	attempts, err := env.Attempts(ctx, job.UID)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
}

// Work outside a transaction that is cancelled while it runs may have had a part of its
// effect, and the history says so; it can have no more.
func TestCancellingWorkOutsideATransaction(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	began := make(chan struct{}, 1)
	env.Work(lockSoon(env), func(w *worker.Worker) {
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[again]) error {
			began <- struct{}{}
			_, err := conn.Exec(ctx, `SELECT pg_sleep(60)`)
			return err
		})
	})
	job, err := env.Client.Enqueue(ctx, "acme", again{}, nil)
	require.NoError(t, err)
	receive(t, began)
	_, err = env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Cancelled, got.State)
	require.Contains(t, got.Message, "it may have had a part of its effect and can have no more")
	var state string
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT state FROM headgate.ledger WHERE job_uid = $1`, job.UID).Scan(&state))
	require.Equal(t, "tombstone", state)
}

// A job in steps that waits until its ledger may have forgotten the first of them does
// not take that step again.
func TestStepsThatTheLedgerMayHaveForgottenAreTold(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	var d diary
	cfg := lockSoon(env)
	cfg.RetryDelay = func(int) time.Duration { return time.Hour }
	env.Work(cfg, func(w *worker.Worker) { registerOutside(w, &d) })
	job, err := env.Client.Enqueue(ctx, "acme", inParts{}, nil)
	require.NoError(t, err)
	env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	awaitTrue(t, env, "the attempt is noted", `SELECT state = 'retryable' AND metadata ? 'open_since' FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	_, err = db.Pool.Exec(ctx, `DELETE FROM headgate.ledger WHERE state <> 'claimed'`) // a month passes
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `
UPDATE river_job SET state = 'available', scheduled_at = now(), metadata = jsonb_set(metadata, '{open_since}', to_jsonb((metadata->>'open_since')::bigint - 31 * 86400))
WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.ClassUnsafe, got.Class, got.Message)
	require.Equal(t, 1, d.count(job.UID+"one"))
	why, err := env.Explain.Explain(ctx, job.UID)
	require.NoError(t, err)
	require.Contains(t, why.Facts[0].Next, "look whether its effect is there")
}

// A job that was lost once and goes on in good order for months is no danger: each
// attempt has found in the ledger that nothing had happened by then.
func TestAnAttemptInGoodOrderMovesTheDoubtOn(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{How: "fail twice"}, nil)
	require.NoError(t, err)
	lose(t, env, job.UID, 28*24*time.Hour)
	cfg := lockSoon(env)
	cfg.RetryDelay = func(int) time.Duration { return time.Hour }
	env.Work(cfg, ends)
	env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	awaitTrue(t, env, "the doubt is of today", `SELECT state = 'retryable' AND (metadata->>'open_since')::bigint > extract(epoch FROM now()) - 3600 FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	for _, passed := range []string{"failed", "succeeded"} {
		_, err := env.Client.Retry(ctx, job.UID)
		require.NoError(t, err)
		env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Attempt > 1 && string(o.State) == passed })
		awaitTrue(t, env, "its end is written", `SELECT state IN ('retryable', 'completed') FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	}
	require.Equal(t, 1, effects(t, db, job.UID))
}

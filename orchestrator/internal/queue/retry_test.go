package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/worker"
)

// A job that has not succeeded is made available under its UID, with an attempt
// more if they were used up.
func TestRetry(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, state := range []string{"available", "scheduled", "retryable", "discarded", "cancelled"} {
		for _, attempt := range []int{0, 1, 25} {
			job := roomtest.Enqueue(t, env)
			roomtest.PutInto(t, env, env.RowOf(job.UID), state)
			roomtest.Do(t, env, `
UPDATE river_job SET attempt = $2, metadata = CASE WHEN finalized_at IS NULL THEN metadata ELSE metadata || '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' END
WHERE id = $1`, env.RowOf(job.UID), attempt)
			roomtest.Do(t, env, `INSERT INTO headgate.suspects (job_id, job_uid, kind) VALUES ($1, $2, 'note')`, env.RowOf(job.UID), job.UID)
			result, err := env.Client.Retry(ctx, job.UID)
			require.NoError(t, err, "%s %d", state, attempt)
			want := jobs.RetryResult{UID: job.UID, Was: queue.StateOf(state), Attempt: attempt, MaxAttempts: 25}
			if attempt == 25 && state != "available" {
				want.MaxAttempts = 26
			}
			require.Equal(t, want, result)
			after := roomtest.JobOf(t, env, job.UID)
			require.Equal(t, jobs.Waiting, after.State)
			require.Equal(t, want.MaxAttempts, after.MaxAttempts)
			require.False(t, after.ScheduledAt.After(time.Now().Add(time.Minute)))
			require.Nil(t, after.FinishedAt)
			if state != "available" {
				require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.suspects WHERE job_id = $1`, env.RowOf(job.UID)), "it is released from quarantine")
				require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND metadata ?| '{cancel_attempted_at,cancel_request}'`, env.RowOf(job.UID)))
			}
		}
	}
}

// What must not run again under its UID says why, and what to do.
func TestRetryRefuses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for name, c := range map[string]struct {
		state, sql string
		finished   bool
		says       string
	}{
		"running":    {state: "running", says: "is running since"},
		"cancelling": {state: "running", sql: `UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' WHERE id = $1`, says: "is being cancelled since 2026-01-01T00:00:00Z"},
		"succeeded":  {state: "completed", finished: true, says: "its effect is done, `headgate job rerun"},
		"pending":    {state: "pending", says: "to be confirmed"},
		"forgotten":  {state: "discarded", sql: `UPDATE river_job SET metadata = metadata || jsonb_build_object('open_since', floor(extract(epoch FROM now() - interval '31 days'))) WHERE id = $1`, says: "longer ago than the 30 days that its tenant's ledger remembers"},
		"odd row":    {state: "running", sql: `UPDATE river_job SET attempted_at = NULL, attempted_by = ARRAY['somebody'] WHERE id = $1`, says: "is running since an unknown time"},
	} {
		t.Run(name, func(t *testing.T) {
			job := roomtest.Enqueue(t, env)
			roomtest.PutInto(t, env, env.RowOf(job.UID), c.state)
			if c.sql != "" {
				roomtest.Do(t, env, c.sql, env.RowOf(job.UID))
			}
			_, err := env.Client.Retry(ctx, job.UID)
			require.ErrorIs(t, err, jobs.ErrRetryRefused)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, c.finished, errors.Is(err, jobs.ErrJobFinished))
			require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND state = $2::river_job_state`, env.RowOf(job.UID), c.state))
		})
	}
	gone := roomtest.Enqueue(t, env)
	roomtest.Outcome(t, env, gone, "discarded", jobs.ClassJobError, "no", time.Now())
	roomtest.Do(t, env, `DELETE FROM river_job WHERE id = $1`, env.RowOf(gone.UID))
	_, err := env.Client.Retry(ctx, gone.UID)
	require.ErrorIs(t, err, jobs.ErrRetryRefused)
	require.ErrorContains(t, err, "its row has left the queue; the history does not keep arguments")
	_, err = env.Client.Retry(ctx, uuid.NewString())
	require.ErrorIs(t, err, jobs.ErrUnknownJob)

	for what, sql := range map[string]string{
		"was never begun":                   `UPDATE river_job SET state = 'scheduled', created_at = now() - interval '400 days' WHERE id = $1`,
		"was first begun today":             `UPDATE river_job SET created_at = now() - interval '40 days', attempted_at = now(), attempt = 1, attempted_by = '{0190aaaa-0000-7000-8000-000000000001:1}', state = 'discarded', finalized_at = now() WHERE id = $1`,
		"was begun and ended in good order": `UPDATE river_job SET attempted_at = now() - interval '40 days', attempt = 1, attempted_by = '{0190aaaa-0000-7000-8000-000000000001:1}', state = 'retryable' WHERE id = $1`,
		"was lost with a worker this week":  `UPDATE river_job SET created_at = now() - interval '40 days', metadata = metadata || jsonb_build_object('open_since', floor(extract(epoch FROM now() - interval '6 days'))) WHERE id = $1`,
	} {
		old := roomtest.Enqueue(t, env)
		roomtest.Do(t, env, sql, env.RowOf(old.UID))
		_, err = env.Client.Retry(ctx, old.UID)
		require.NoError(t, err, "an old job that %s stands in its ledger, or need not", what)
	}
}

// A job that used up its attempts is tried again and does its work, under the
// same UID.
func TestRetryRuns(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	fixed := make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(_ context.Context, _ pgx.Tx, _ *jobs.Job[roomtest.Note]) error {
			select {
			case <-fixed:
				return nil
			default:
				return errors.New("broken")
			}
		})
	})
	job, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &jobs.EnqueueOpts{MaxAttempts: 1})
	require.NoError(t, err)
	require.Equal(t, jobs.Discarded, env.Wait(job.UID).State)
	close(fixed)
	result, err := env.Client.Retry(ctx, job.UID)
	require.NoError(t, err)
	require.Equal(t, 2, result.MaxAttempts)
	done := env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State == jobs.Succeeded })
	require.Equal(t, 2, done.Attempt)
}

// A rerun is a new job like the first one, and says whose it is.
func TestRerun(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	first, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "again"}, &jobs.EnqueueOpts{
		Queue: "slow", Priority: 2, Tags: []string{"monthly", "for_accounting"}, MaxAttempts: 3, Timeout: time.Hour, RunAt: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	roomtest.PutInto(t, env, env.RowOf(first.UID), "completed")
	second, err := env.Client.Rerun(ctx, first.UID, nil)
	require.NoError(t, err)
	require.NotEqual(t, first.UID, second.UID)
	require.Equal(t, jobs.EnqueueResult{UID: second.UID, Status: jobs.StatusNew, RerunOf: first.UID}, second)
	job := roomtest.JobOf(t, env, second.UID)
	require.Equal(t, first.UID, job.RerunOf)
	require.Equal(t, jobs.Waiting, job.State)
	require.Equal(t, "acme", job.Tenant)
	require.Equal(t, "slow", job.Queue)
	require.Equal(t, 2, job.Priority)
	require.Equal(t, 3, job.MaxAttempts)
	require.Equal(t, []string{"monthly", "for_accounting"}, job.Tags)
	require.JSONEq(t, `{"text": "again"}`, string(job.Args))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND metadata->>'timeout_ms' = '3600000'`, env.RowOf(second.UID)))
	require.Equal(t, jobs.Succeeded, roomtest.JobOf(t, env, first.UID).State, "the first one stays")

	opts := &jobs.EnqueueOpts{Queue: "quick", Priority: 4, Tags: []string{}, MaxAttempts: 1, Timeout: time.Minute, RunAt: time.Now().Add(time.Hour), IdempotencyKey: "k"}
	third, err := env.Client.Rerun(ctx, first.UID, opts)
	require.NoError(t, err)
	job = roomtest.JobOf(t, env, third.UID)
	require.Equal(t, jobs.Scheduled, job.State)
	require.Equal(t, "quick", job.Queue)
	require.Equal(t, 4, job.Priority)
	require.Equal(t, 1, job.MaxAttempts)
	require.Empty(t, job.Tags)
	same, err := env.Client.Rerun(ctx, first.UID, opts)
	require.NoError(t, err)
	require.Equal(t, jobs.StatusSame, same.Status)
	require.Equal(t, third.UID, same.UID)
}

func TestRerunRefuses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job := roomtest.Enqueue(t, env)
	_, err := env.Client.Rerun(ctx, job.UID, &jobs.EnqueueOpts{Priority: 9})
	require.ErrorContains(t, err, `priority "9": give 1 (first) to 4`)
	require.NoError(t, env.Catalog.SetStatus(ctx, "acme", catalog.Suspended))
	_, err = env.Client.Rerun(ctx, job.UID, nil)
	require.ErrorIs(t, err, jobs.ErrTenantSuspended)
	roomtest.Outcome(t, env, job, "succeeded", "", "", time.Now())
	roomtest.Do(t, env, `DELETE FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	_, err = env.Client.Rerun(ctx, job.UID, nil)
	require.ErrorIs(t, err, jobs.ErrRetryRefused)
	require.ErrorContains(t, err, "enqueue it anew")
	_, err = env.Client.Rerun(ctx, uuid.NewString(), nil)
	require.ErrorIs(t, err, jobs.ErrUnknownJob)
	roomtest.Do(t, env, `INSERT INTO river_job (id, kind, args, max_attempts) VALUES (77, 'theirs', '{}', 3)`)
	_, err = env.Client.Rerun(ctx, env.UIDOf(77), nil)
	require.ErrorIs(t, err, jobs.ErrNoTenant)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// Retry and Rerun are undone with the caller's transaction.
func TestRetryTx(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job, undone := roomtest.Enqueue(t, env), errors.New("undone")
	roomtest.PutInto(t, env, env.RowOf(job.UID), "discarded")
	err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Client.RetryTx(ctx, tx, job.UID)
		require.NoError(t, err)
		again, err := env.Client.RerunTx(ctx, tx, job.UID, nil)
		require.NoError(t, err)
		_, err = json.Marshal(again)
		require.NoError(t, err)
		return undone
	})
	require.ErrorIs(t, err, undone)
	require.Equal(t, jobs.Discarded, roomtest.JobOf(t, env, job.UID).State)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

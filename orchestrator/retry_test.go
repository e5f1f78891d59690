package orchestrator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// A job that has not succeeded is made available under its UID, with an attempt
// more if they were used up.
func TestRetry(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for _, state := range []string{"available", "scheduled", "retryable", "discarded", "cancelled"} {
		for _, attempt := range []int{0, 1, 25} {
			job := enqueue(t, env)
			putInto(t, env, job.ID, state)
			do(t, env, `
UPDATE river_job SET attempt = $2, metadata = CASE WHEN finalized_at IS NULL THEN metadata ELSE metadata || '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' END
WHERE id = $1`, job.ID, attempt)
			do(t, env, `INSERT INTO headgate.suspects (job_id, job_uid, kind) VALUES ($1, $2, 'note')`, job.ID, job.UID)
			result, err := env.Client.Retry(ctx, job.UID)
			require.NoError(t, err, "%s %d", state, attempt)
			want := orchestrator.RetryResult{UID: job.UID, ID: job.ID, Was: state, Attempt: attempt, MaxAttempts: 25}
			if attempt == 25 && state != "available" {
				want.MaxAttempts = 26
			}
			require.Equal(t, want, result)
			after := jobOf(t, env, job.UID)
			require.Equal(t, "available", after.State)
			require.Equal(t, want.MaxAttempts, after.MaxAttempts)
			require.False(t, after.ScheduledAt.After(time.Now().Add(time.Minute)))
			require.Nil(t, after.FinishedAt)
			if state != "available" {
				require.Zero(t, count(t, env, `SELECT count(*) FROM headgate.suspects WHERE job_id = $1`, job.ID), "it is released from quarantine")
				require.Zero(t, count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND metadata ?| '{cancel_attempted_at,cancel_request}'`, job.ID))
			}
		}
	}
}

// What must not run again under its UID says why, and what to do.
func TestRetryRefuses(t *testing.T) {
	t.Parallel()
	env := setup(t)
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
		"odd row":    {state: "running", sql: `UPDATE river_job SET attempted_at = NULL WHERE id = $1`, says: "is running since an unknown time"},
	} {
		t.Run(name, func(t *testing.T) {
			job := enqueue(t, env)
			putInto(t, env, job.ID, c.state)
			if c.sql != "" {
				do(t, env, c.sql, job.ID)
			}
			_, err := env.Client.Retry(ctx, job.UID)
			require.ErrorIs(t, err, orchestrator.ErrRetryRefused)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, c.finished, errors.Is(err, orchestrator.ErrJobFinished))
			require.Equal(t, 1, count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND state = $2::river_job_state`, job.ID, c.state))
		})
	}
	gone := enqueue(t, env)
	outcome(t, env, gone, "discarded", jobs.ClassJobError, "no", time.Now())
	do(t, env, `DELETE FROM river_job WHERE id = $1`, gone.ID)
	_, err := env.Client.Retry(ctx, gone.UID)
	require.ErrorIs(t, err, orchestrator.ErrRetryRefused)
	require.ErrorContains(t, err, "its row has left the queue; the history does not keep arguments")
	_, err = env.Client.Retry(ctx, uuid.NewString())
	require.ErrorIs(t, err, orchestrator.ErrUnknownJob)

	for what, sql := range map[string]string{
		"was never begun":                   `UPDATE river_job SET state = 'scheduled', created_at = now() - interval '400 days' WHERE id = $1`,
		"was first begun today":             `UPDATE river_job SET created_at = now() - interval '40 days', attempted_at = now(), attempt = 1, attempted_by = '{a:1}', state = 'discarded', finalized_at = now() WHERE id = $1`,
		"was begun and ended in good order": `UPDATE river_job SET attempted_at = now() - interval '40 days', attempt = 1, attempted_by = '{a:1}', state = 'retryable' WHERE id = $1`,
		"was lost with a worker this week":  `UPDATE river_job SET created_at = now() - interval '40 days', metadata = metadata || jsonb_build_object('open_since', floor(extract(epoch FROM now() - interval '6 days'))) WHERE id = $1`,
	} {
		old := enqueue(t, env)
		do(t, env, sql, old.ID)
		_, err = env.Client.Retry(ctx, old.UID)
		require.NoError(t, err, "an old job that %s stands in its ledger, or need not", what)
	}
}

// A job that used up its attempts is tried again and does its work, under the
// same UID.
func TestRetryRuns(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	fixed := make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(_ context.Context, _ pgx.Tx, _ *jobs.Job[Note]) error {
			select {
			case <-fixed:
				return nil
			default:
				return errors.New("broken")
			}
		})
	})
	job, err := env.Client.Enqueue(ctx, "acme", Note{}, &orchestrator.EnqueueOpts{MaxAttempts: 1})
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
	env := setup(t)
	ctx := context.Background()
	first, err := env.Client.Enqueue(ctx, "acme", Note{"again"}, &orchestrator.EnqueueOpts{
		Queue: "slow", Priority: 2, Tags: []string{"monthly", "for_accounting"}, MaxAttempts: 3, Timeout: time.Hour, RunAt: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	putInto(t, env, first.ID, "completed")
	second, err := env.Client.Rerun(ctx, fmt.Sprint(first.ID), nil)
	require.NoError(t, err)
	require.NotEqual(t, first.UID, second.UID)
	require.Equal(t, orchestrator.EnqueueResult{UID: second.UID, ID: second.ID, Result: orchestrator.ResultNew, RerunOf: first.UID}, second)
	job := jobOf(t, env, second.UID)
	require.Equal(t, first.UID, job.RerunOf)
	require.Equal(t, "available", job.State)
	require.Equal(t, "acme", job.Tenant)
	require.Equal(t, "slow", job.Queue)
	require.Equal(t, 2, job.Priority)
	require.Equal(t, 3, job.MaxAttempts)
	require.Equal(t, []string{"monthly", "for_accounting"}, job.Tags)
	require.JSONEq(t, `{"text": "again"}`, string(job.Args))
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND metadata->>'timeout_ms' = '3600000'`, second.ID))
	require.Equal(t, "completed", jobOf(t, env, first.UID).State, "the first one stays")

	opts := &orchestrator.EnqueueOpts{Queue: "quick", Priority: 4, Tags: []string{}, MaxAttempts: 1, Timeout: time.Minute, RunAt: time.Now().Add(time.Hour), IdempotencyKey: "k"}
	third, err := env.Client.Rerun(ctx, first.UID, opts)
	require.NoError(t, err)
	job = jobOf(t, env, third.UID)
	require.Equal(t, "scheduled", job.State)
	require.Equal(t, "quick", job.Queue)
	require.Equal(t, 4, job.Priority)
	require.Equal(t, 1, job.MaxAttempts)
	require.Empty(t, job.Tags)
	same, err := env.Client.Rerun(ctx, first.UID, opts)
	require.NoError(t, err)
	require.Equal(t, orchestrator.ResultSame, same.Result)
	require.Equal(t, third.UID, same.UID)
}

// A rerun of a schedule's occurrence is for the same nominal time; one of a
// job about a database is for that database.
func TestRerunKeepsWhatItIsFor(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	create(t, env, "acme", "nightly", "@daily")
	makeDue(t, env)
	_, _, err := orchestrator.RunOnce(orchestrator.NewScheduler(env.Client, orchestrator.SchedulerConfig{}), ctx)
	require.NoError(t, err)
	var id int64
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT id FROM river_job`).Scan(&id))
	again, err := env.Client.Rerun(ctx, fmt.Sprint(id), nil)
	require.NoError(t, err)
	require.Equal(t, 1, count(t, env, `
SELECT count(*) FROM river_job a JOIN river_job b ON a.metadata->>'nominal' = b.metadata->>'nominal' AND a.metadata->>'schedule' = b.metadata->>'schedule'
WHERE a.id = $1 AND b.id = $2`, id, again.ID))

	tidy, err := env.Client.EnqueueDatabase(ctx, "shared", Tidy{}, nil)
	require.NoError(t, err)
	again, err = env.Client.Rerun(ctx, tidy.UID, nil)
	require.NoError(t, err)
	require.Equal(t, "shared", jobOf(t, env, again.UID).Database)
	require.Empty(t, jobOf(t, env, again.UID).Tenant)
}

func TestRerunRefuses(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	job := enqueue(t, env)
	_, err := env.Client.Rerun(ctx, job.UID, &orchestrator.EnqueueOpts{Priority: 9})
	require.ErrorContains(t, err, "priority is 9: give 1 (first) to 4")
	require.NoError(t, env.Catalog.SetStatus(ctx, "acme", catalog.Suspended))
	_, err = env.Client.Rerun(ctx, job.UID, nil)
	require.ErrorIs(t, err, jobs.ErrTenantSuspended)
	outcome(t, env, job, "succeeded", "", "", time.Now())
	do(t, env, `DELETE FROM river_job WHERE id = $1`, job.ID)
	_, err = env.Client.Rerun(ctx, job.UID, nil)
	require.ErrorIs(t, err, orchestrator.ErrRetryRefused)
	require.ErrorContains(t, err, "enqueue it anew")
	_, err = env.Client.Rerun(ctx, uuid.NewString(), nil)
	require.ErrorIs(t, err, orchestrator.ErrUnknownJob)
	do(t, env, `INSERT INTO river_job (id, kind, args, max_attempts) VALUES (77, 'theirs', '{}', 3)`)
	_, err = env.Client.Rerun(ctx, "77", nil)
	require.ErrorIs(t, err, jobs.ErrNoTenant)
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM river_job`))
}

// Retry and Rerun are undone with the caller's transaction.
func TestRetryTx(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	job, undone := enqueue(t, env), errors.New("undone")
	putInto(t, env, job.ID, "discarded")
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
	require.Equal(t, "discarded", jobOf(t, env, job.UID).State)
	require.Equal(t, 1, count(t, env, `SELECT count(*) FROM river_job`))
}

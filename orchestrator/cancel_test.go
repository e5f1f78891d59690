package orchestrator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/worker"
)

func enqueue(t *testing.T, env *jobstest.Env) orchestrator.EnqueueResult {
	t.Helper()
	result, err := env.Client.Enqueue(context.Background(), "acme", Note{"x"}, nil)
	require.NoError(t, err)
	return result
}

func do(t *testing.T, env *jobstest.Env, sql string, args ...any) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// putInto brings a job's row into a state, as River and its workers would.
func putInto(t *testing.T, env *jobstest.Env, id int64, state string) {
	t.Helper()
	do(t, env, `
UPDATE river_job SET state = $2::river_job_state,
    attempt = CASE WHEN $2 IN ('available', 'scheduled', 'pending') THEN 0 ELSE 1 END,
    attempted_at = CASE WHEN $2 IN ('available', 'scheduled', 'pending') THEN NULL ELSE now() END,
    scheduled_at = CASE WHEN $2 IN ('scheduled', 'retryable') THEN now() + interval '1 hour' ELSE scheduled_at END,
    finalized_at = CASE WHEN $2 IN ('completed', 'cancelled', 'discarded') THEN now() END
WHERE id = $1`, id, state)
	if state == "completed" { // with its outcome, as workers do it
		do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, 'succeeded', now(), now() FROM river_job WHERE id = $1`, id)
	}
}

// runUnder puts a job's row into the hands of a worker that this test only
// claims to have, and returns its incarnation.
func runUnder(t *testing.T, env *jobstest.Env, id int64) string {
	t.Helper()
	incarnation := uuid.NewString()
	putInto(t, env, id, "running")
	do(t, env, `UPDATE river_job SET attempted_by = ARRAY[$2::text || ':1'] WHERE id = $1`, id, incarnation)
	register(t, env, incarnation, []string{"note"}, []string{"default"})
	return incarnation
}

func register(t *testing.T, env *jobstest.Env, incarnation string, kinds, queues []string) {
	t.Helper()
	do(t, env, `INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1::text::uuid, 'w-' || left($1::text, 4), 'here', 7, $2, $3)`,
		incarnation, kinds, queues)
}

func jobOf(t *testing.T, env *jobstest.Env, uid string) orchestrator.Job {
	t.Helper()
	job, err := env.Client.Job(context.Background(), uid)
	require.NoError(t, err)
	return job
}

// A job that was never begun is cancelled at once, whatever it waits for, and the
// history says by whom.
func TestCancelWaiting(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for _, state := range []string{"available", "scheduled", "pending"} {
		job := enqueue(t, env)
		putInto(t, env, job.ID, state)
		result, err := env.Client.Cancel(ctx, fmt.Sprint(job.ID), &orchestrator.CancelOpts{Actor: "ana", Reason: "sent twice"})
		require.NoError(t, err, state)
		require.Equal(t, "cancelled", result.State)
		require.Equal(t, job.UID, result.UID)
		require.Empty(t, result.Tombstone)
		require.WithinDuration(t, time.Now(), result.RequestedAt, time.Minute)

		after := jobOf(t, env, job.UID)
		require.Equal(t, "cancelled", after.State)
		require.Len(t, after.Attempts, 1)
		require.Equal(t, jobs.Cancelled, after.Attempts[0].State)
		require.Equal(t, "cancelled by ana: sent twice", after.Attempts[0].Message)
		require.Equal(t, "ana", after.Cancel.By)

		_, err = env.Client.Cancel(ctx, job.UID, nil)
		require.ErrorIs(t, err, orchestrator.ErrJobFinished)
		require.ErrorContains(t, err, "is cancelled since")
	}
	require.Equal(t, 3, count(t, env, `SELECT count(*) FROM river_job`), "no tombstone is needed")
}

// Text that Postgres cannot store does not keep a job from being cancelled.
func TestCancelWithOddText(t *testing.T) {
	t.Parallel()
	env := setup(t)
	job := enqueue(t, env)
	_, err := env.Client.Cancel(context.Background(), job.UID, &orchestrator.CancelOpts{Actor: "a\x00\xff", Reason: strings.Repeat("é", 300)})
	require.NoError(t, err)
	message := jobOf(t, env, job.UID).Attempts[0].Message
	require.Equal(t, "cancelled by a\uFFFD: "+strings.Repeat("é", 250), message)
}

// A running job is marked and its worker told; if that does not answer, a
// tombstone follows, once.
func TestCancelRunning(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	listener, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(ctx, `LISTEN "public.river_control"`)
	require.NoError(t, err)

	job, err := env.Client.Enqueue(ctx, "acme", Note{}, &orchestrator.EnqueueOpts{Queue: "slow", Priority: 3})
	require.NoError(t, err)
	incarnation := runUnder(t, env, job.ID)
	result, err := env.Client.Cancel(ctx, job.UID, &orchestrator.CancelOpts{Actor: "ana"})
	require.NoError(t, err)
	require.Equal(t, orchestrator.Cancelling, result.State)
	require.Empty(t, result.Tombstone)
	heard, err := listener.WaitForNotification(ctx)
	require.NoError(t, err)
	require.Contains(t, heard.Payload, `"cancel"`)
	require.Equal(t, orchestrator.Cancelling, jobOf(t, env, job.UID).State)
	for state, n := range map[string]int{orchestrator.Cancelling: 1, "running": 1, "available": 0} {
		list, err := env.Client.Jobs(ctx, orchestrator.JobFilter{State: state})
		require.NoError(t, err)
		require.Len(t, list, n, state)
	}

	again, err := env.Client.Cancel(ctx, job.UID, &orchestrator.CancelOpts{Actor: "ben"})
	require.NoError(t, err)
	require.Equal(t, result, again, "the first wish counts")
	require.Equal(t, "ana", jobOf(t, env, job.UID).Cancel.By)

	age(t, env, job.ID)
	late, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, orchestrator.Cancelling, late.State)
	require.NotEmpty(t, late.Tombstone)
	still, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, late, still)
	require.Equal(t, 2, count(t, env, `SELECT count(*) FROM river_job`))

	stone := jobOf(t, env, late.Tombstone)
	require.Equal(t, jobs.Tombstone{}.Kind(), stone.Kind)
	require.JSONEq(t, fmt.Sprintf(`{"uid": %q, "id": %d, "token": "%s:1"}`, job.UID, job.ID, incarnation), string(stone.Args))
	require.Equal(t, "acme", stone.Tenant)
	require.Equal(t, "slow", stone.Queue)
	require.Equal(t, 1, stone.Priority)
}

// age makes a wish to cancel older than a worker is given.
func age(t *testing.T, env *jobstest.Env, id int64) {
	t.Helper()
	do(t, env, `
UPDATE river_job SET metadata = jsonb_set(metadata, '{cancel_request,at}', to_jsonb(now() - $2::interval)) WHERE id = $1`, id, 2*orchestrator.TombstoneAfter)
}

// A job of scope database has a tombstone of that scope.
func TestCancelRunningOnADatabase(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	job, err := env.Client.EnqueueDatabase(ctx, "shared", Tidy{}, nil)
	require.NoError(t, err)
	runUnder(t, env, job.ID)
	_, err = env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	age(t, env, job.ID)
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	stone := jobOf(t, env, result.Tombstone)
	require.Equal(t, jobs.DatabaseTombstone{}.Kind(), stone.Kind)
	require.Equal(t, "shared", stone.Database)
	require.Empty(t, stone.Tenant)
}

// A job that has been begun and waits is being cancelled until its ledger has
// answered: it is due at once, first in line. Not even a word of the history is needed
// for that, which may be lost or too old. If nobody asks, a tombstone does.
func TestCancelBetweenTwoAttempts(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for state, by := range map[string]string{"available": "{a:1:lost}", "scheduled": "{a:1}", "retryable": "{a:1}"} {
		job := enqueue(t, env)
		putInto(t, env, job.ID, state)
		do(t, env, `UPDATE river_job SET attempted_by = $2, priority = 4, unique_key = '\x01', unique_states = '11111111' WHERE id = $1`, job.ID, by)
		do(t, env, `DELETE FROM headgate.wakeups`)
		result, err := env.Client.Cancel(ctx, job.UID, &orchestrator.CancelOpts{Actor: "ana"})
		require.NoError(t, err)
		require.Equal(t, orchestrator.Cancelling, result.State)
		require.Empty(t, result.Tombstone)
		after := jobOf(t, env, job.UID)
		require.Equal(t, orchestrator.Cancelling, after.State)
		require.Equal(t, 1, after.Priority)
		require.Nil(t, after.FinishedAt)
		require.Empty(t, after.Attempts, "nothing has ended yet")
		require.Equal(t, 1, count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND state = 'available' AND scheduled_at <= now() AND unique_key IS NULL`, job.ID))
		require.Contains(t, factsOf(t, env, job.UID), "it is being cancelled (cancelled by ana): an attempt at it may still be open")
		require.NotZero(t, count(t, env, `SELECT count(*) FROM headgate.wakeups WHERE queue = 'default' AND priority = 1`))
		_, err = env.Client.Retry(ctx, job.UID)
		require.ErrorIs(t, err, orchestrator.ErrRetryRefused)
		require.ErrorContains(t, err, "is being cancelled since")

		again, err := env.Client.Cancel(ctx, job.UID, nil)
		require.NoError(t, err)
		require.Equal(t, result, again)
		age(t, env, job.ID)
		require.Equal(t, 1, sweep(t, janitor(t, env, orchestrator.JanitorConfig{})).Tombstones)
		after = jobOf(t, env, job.UID)
		require.Equal(t, orchestrator.Cancelling, after.State)
		require.Contains(t, string(jobOf(t, env, after.Tombstone).Args), `"token": "`+strings.Trim(by, "{}")+`"`)
	}
}

// outcome writes an ended attempt of a job into the history.
func outcome(t *testing.T, env *jobstest.Env, job orchestrator.EnqueueResult, state string, class jobs.Class, message string, at time.Time) {
	t.Helper()
	do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, class, message, started_at, ended_at)
VALUES (gen_random_uuid(), $1, $2, 'note', 1, $3, $4, $5, $6, $6)`, job.UID, job.ID, state, string(class), message, at)
}

// What has ended says how, also when its row has left the queue.
func TestCancelFinished(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for _, state := range []string{"completed", "discarded", "cancelled"} {
		job := enqueue(t, env)
		putInto(t, env, job.ID, state)
		_, err := env.Client.Cancel(ctx, job.UID, nil)
		var finished *orchestrator.JobFinishedError
		require.ErrorAs(t, err, &finished)
		require.ErrorIs(t, err, orchestrator.ErrJobFinished)
		require.Equal(t, state, finished.State)
		require.Equal(t, job.UID, finished.UID)
	}
	job := enqueue(t, env)
	outcome(t, env, job, "succeeded", "", "", time.Now())
	do(t, env, `DELETE FROM river_job WHERE id = $1`, job.ID)
	_, err := env.Client.Cancel(ctx, job.UID, nil)
	require.ErrorIs(t, err, orchestrator.ErrJobFinished)
	require.ErrorContains(t, err, "is completed since")
	require.ErrorContains(t, err, "its row has left the queue")
	for _, name := range []string{fmt.Sprint(job.ID), uuid.NewString(), "x", "", "-1"} {
		_, err = env.Client.Cancel(ctx, name, nil)
		require.ErrorIs(t, err, orchestrator.ErrUnknownJob, name)
	}
}

// Undone with the caller's transaction.
func TestCancelTx(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	job, undone := enqueue(t, env), errors.New("undone")
	err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Client.CancelTx(ctx, tx, job.UID, nil)
		require.NoError(t, err)
		return undone
	})
	require.ErrorIs(t, err, undone)
	after := jobOf(t, env, job.UID)
	require.Equal(t, "available", after.State)
	require.Empty(t, after.Attempts)
	require.Nil(t, after.Cancel)
}

// A row of another River client, whose metadata has its own idea of our keys, is
// shown and cancelled like ours.
func TestCancelAForeignRow(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for _, metadata := range []string{
		`{}`, `{"timeout_ms": "soon", "tenant": 7}`, `{"job_uid": "theirs"}`, `{"job_uid": 7, "nominal": "noon"}`,
		`{"cancel_request": "please"}`, `{"cancel_request": {"at": "now"}}`, `{"cancel_attempted_at": "never"}`,
	} {
		var id int64
		require.NoError(t, env.Pool.QueryRow(ctx, `
INSERT INTO river_job (kind, args, max_attempts, metadata) VALUES ('theirs', '{}', 3, $1) RETURNING id`, metadata).Scan(&id))
		require.NotEmpty(t, factsOf(t, env, fmt.Sprint(id)), metadata)
		result, err := env.Client.Cancel(ctx, fmt.Sprint(id), &orchestrator.CancelOpts{Actor: "ana"})
		require.NoError(t, err, metadata)
		job := jobOf(t, env, fmt.Sprint(id))
		require.Equal(t, job.UID, result.UID)
		require.Equal(t, jobs.UIDOfRow(id, job.EnqueuedAt.Time), job.UID)
		require.Len(t, job.Attempts, 1, metadata)
		require.Equal(t, "ana", job.Cancel.By, metadata)
	}
	list, err := env.Client.Jobs(ctx, orchestrator.JobFilter{})
	require.NoError(t, err)
	require.Len(t, list, 7)
}

// The handler's context ends, and what it did is rolled back.
func TestCancelAtWork(t *testing.T) {
	t.Parallel()
	env := setup(t)
	begun := make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[Note]) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	job := enqueue(t, env)
	<-begun
	result, err := env.Client.Cancel(context.Background(), job.UID, &orchestrator.CancelOpts{Actor: "ana"})
	require.NoError(t, err)
	require.Equal(t, orchestrator.Cancelling, result.State)
	require.Equal(t, jobs.Cancelled, env.Wait(job.UID).State)
	raw, err := json.Marshal(result)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"state":"cancelling"`)
}

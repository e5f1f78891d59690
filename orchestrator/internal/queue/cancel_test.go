package queue_test

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
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/worker"
)

// A job that was never begun is cancelled at once, whatever it waits for, and the
// history says by whom.
func TestCancelWaiting(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, state := range []string{"available", "scheduled", "pending"} {
		job := roomtest.Enqueue(t, env)
		roomtest.PutInto(t, env, env.RowOf(job.UID), state)
		result, err := env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ana", Reason: "sent twice"})
		require.NoError(t, err, state)
		require.Equal(t, jobs.Cancelled, result.State)
		require.Equal(t, job.UID, result.UID)
		require.Empty(t, result.Tombstone)
		require.WithinDuration(t, time.Now(), result.RequestedAt, time.Minute)

		after := roomtest.JobOf(t, env, job.UID)
		require.Equal(t, jobs.Cancelled, after.State)
		require.Len(t, after.Attempts, 1)
		require.Equal(t, jobs.Cancelled, after.Attempts[0].State)
		require.Equal(t, "cancelled by ana: sent twice", after.Attempts[0].Message)
		require.Equal(t, "ana", after.Cancel.By)

		_, err = env.Client.Cancel(ctx, job.UID, nil)
		require.ErrorIs(t, err, jobs.ErrJobFinished)
		require.ErrorContains(t, err, "is cancelled since")
	}
	require.Equal(t, 3, roomtest.Count(t, env, `SELECT count(*) FROM river_job`), "no tombstone is needed")
}

// Text that Postgres cannot store does not keep a job from being cancelled.
func TestCancelWithOddText(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	job := roomtest.Enqueue(t, env)
	_, err := env.Client.Cancel(context.Background(), job.UID, &jobs.CancelOpts{Actor: "a\x00\xff", Reason: strings.Repeat("é", 300)})
	require.NoError(t, err)
	message := roomtest.JobOf(t, env, job.UID).Attempts[0].Message
	require.Equal(t, "cancelled by a\uFFFD: "+strings.Repeat("é", 250), message)
}

// A running job is marked and its worker told, whatever schema comes first in the session's
// search_path: of a login that is called headgate it is schema headgate. If the worker does not
// answer, a tombstone follows, once.
func TestCancelRunning(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	roomtest.Do(t, env, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = headgate, public', current_database()); END $$`)
	env.Pool.Reset()
	listener, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(ctx, `LISTEN "public.river_control"`)
	require.NoError(t, err)

	job, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &jobs.EnqueueOpts{Queue: "slow", Priority: 3})
	require.NoError(t, err)
	incarnation := roomtest.RunUnder(t, env, env.RowOf(job.UID))
	result, err := env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ana"})
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, result.State)
	require.Empty(t, result.Tombstone)
	heard, err := listener.WaitForNotification(ctx)
	require.NoError(t, err)
	require.Contains(t, heard.Payload, `"cancel"`)
	require.Equal(t, jobs.Cancelling, roomtest.JobOf(t, env, job.UID).State)
	for state, n := range map[jobs.State]int{jobs.Cancelling: 1, jobs.Running: 1, jobs.Waiting: 0} {
		list, _, err := env.Client.Jobs(ctx, jobs.JobFilter{State: state})
		require.NoError(t, err)
		require.Len(t, list, n, state)
	}

	again, err := env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ben"})
	require.NoError(t, err)
	require.Equal(t, result, again, "the first wish counts")
	require.Equal(t, "ana", roomtest.JobOf(t, env, job.UID).Cancel.By)

	roomtest.Age(t, env, env.RowOf(job.UID))
	late, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, late.State)
	require.NotEmpty(t, late.Tombstone)
	still, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, late, still)
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))

	stone := roomtest.JobOf(t, env, late.Tombstone)
	require.Equal(t, wire.Tombstone{}.Kind(), stone.Kind)
	require.JSONEq(t, fmt.Sprintf(`{"uid": %q, "id": %d, "token": "%s:1"}`, job.UID, env.RowOf(job.UID), incarnation), string(stone.Args))
	require.Equal(t, "acme", stone.Tenant)
	require.Equal(t, "slow", stone.Queue)
	require.Equal(t, 1, stone.Priority)
}

// A job of scope database has a tombstone of that scope.
func TestCancelRunningOnADatabase(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job, err := env.Client.EnqueueDatabase(ctx, "shared", roomtest.Tidy{}, nil)
	require.NoError(t, err)
	roomtest.RunUnder(t, env, env.RowOf(job.UID))
	_, err = env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	roomtest.Age(t, env, env.RowOf(job.UID))
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	stone := roomtest.JobOf(t, env, result.Tombstone)
	require.Equal(t, wire.DatabaseTombstone{}.Kind(), stone.Kind)
	require.Equal(t, "shared", stone.Database)
	require.Empty(t, stone.Tenant)
}

// A job that has been begun and waits is being cancelled until its ledger has
// answered: it is due at once, first in line. Not even a word of the history is needed
// for that, which may be lost or too old. If nobody asks, a tombstone does.
func TestCancelBetweenTwoAttempts(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for state, by := range map[string]string{"available": "{0190aaaa-0000-7000-8000-000000000001:1:lost}", "scheduled": "{0190aaaa-0000-7000-8000-000000000001:1}", "retryable": "{0190aaaa-0000-7000-8000-000000000001:1}"} {
		job := roomtest.Enqueue(t, env)
		roomtest.PutInto(t, env, env.RowOf(job.UID), state)
		roomtest.Do(t, env, `UPDATE river_job SET attempted_by = $2, priority = 4, unique_key = '\x01', unique_states = '11111111' WHERE id = $1`, env.RowOf(job.UID), by)
		roomtest.Do(t, env, `DELETE FROM headgate.wakeups`)
		result, err := env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ana"})
		require.NoError(t, err)
		require.Equal(t, jobs.Cancelling, result.State)
		require.Empty(t, result.Tombstone)
		after := roomtest.JobOf(t, env, job.UID)
		require.Equal(t, jobs.Cancelling, after.State)
		require.Equal(t, 1, after.Priority)
		require.Nil(t, after.FinishedAt)
		require.Empty(t, after.Attempts, "nothing has ended yet")
		require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND state = 'available' AND scheduled_at <= now() AND unique_key IS NULL`, env.RowOf(job.UID)))
		require.Contains(t, roomtest.FactsOf(t, env, job.UID), "it is being cancelled (cancelled by ana): an attempt at it may still be open")
		require.NotZero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.wakeups WHERE queue = 'default' AND priority = 1`))
		_, err = env.Client.Retry(ctx, job.UID)
		require.ErrorIs(t, err, jobs.ErrRetryRefused)
		require.ErrorContains(t, err, "is being cancelled since")

		again, err := env.Client.Cancel(ctx, job.UID, nil)
		require.NoError(t, err)
		require.Equal(t, result, again)
		roomtest.Age(t, env, env.RowOf(job.UID))
		require.Equal(t, 1, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Tombstones)
		after = roomtest.JobOf(t, env, job.UID)
		require.Equal(t, jobs.Cancelling, after.State)
		require.Contains(t, string(roomtest.JobOf(t, env, after.Tombstone).Args), `"token": "`+strings.Trim(by, "{}")+`"`)
	}
}

// What has ended says how, also when its row has left the queue.
func TestCancelFinished(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, state := range []string{"completed", "discarded", "cancelled"} {
		job := roomtest.Enqueue(t, env)
		roomtest.PutInto(t, env, env.RowOf(job.UID), state)
		_, err := env.Client.Cancel(ctx, job.UID, nil)
		var finished *jobs.JobFinishedError
		require.ErrorAs(t, err, &finished)
		require.ErrorIs(t, err, jobs.ErrJobFinished)
		require.Equal(t, queue.StateOf(state), finished.State)
		require.Equal(t, job.UID, finished.UID)
	}
	job := roomtest.Enqueue(t, env)
	roomtest.Outcome(t, env, job, "succeeded", "", "", time.Now())
	roomtest.Do(t, env, `DELETE FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	_, err := env.Client.Cancel(ctx, job.UID, nil)
	require.ErrorIs(t, err, jobs.ErrJobFinished)
	require.ErrorContains(t, err, "has succeeded since")
	require.ErrorContains(t, err, "its row has left the queue")
	_, err = env.Client.Cancel(ctx, uuid.NewString(), nil)
	require.ErrorIs(t, err, jobs.ErrUnknownJob)
	for _, name := range []string{"77", "x", "", "-1"} { // a row's number names no job
		_, err = env.Client.Cancel(ctx, name, nil)
		require.ErrorAs(t, err, new(*jobs.InputError), name)
	}
}

// Undone with the caller's transaction.
func TestCancelTx(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job, undone := roomtest.Enqueue(t, env), errors.New("undone")
	err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Client.CancelTx(ctx, tx, job.UID, nil)
		require.NoError(t, err)
		return undone
	})
	require.ErrorIs(t, err, undone)
	after := roomtest.JobOf(t, env, job.UID)
	require.Equal(t, jobs.Waiting, after.State)
	require.Empty(t, after.Attempts)
	require.Nil(t, after.Cancel)
}

// A row of another River client, whose metadata has its own idea of our keys, is
// shown and cancelled like ours.
func TestCancelAForeignRow(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, metadata := range []string{
		`{}`, `{"timeout_ms": "soon", "tenant": 7}`, `{"job_uid": "theirs"}`, `{"job_uid": 7, "nominal": "noon"}`,
		`{"cancel_request": "please"}`, `{"cancel_request": {"at": "now"}}`, `{"cancel_attempted_at": "never"}`,
	} {
		var id int64
		require.NoError(t, env.Pool.QueryRow(ctx, `
INSERT INTO river_job (kind, args, max_attempts, metadata) VALUES ('theirs', '{}', 3, $1) RETURNING id`, metadata).Scan(&id))
		list, _, err := env.Client.Jobs(ctx, jobs.JobFilter{Page: jobs.Page{Limit: 1}})
		require.NoError(t, err)
		uid := list[0].UID
		require.NotEmpty(t, roomtest.FactsOf(t, env, uid), metadata)
		result, err := env.Client.Cancel(ctx, uid, &jobs.CancelOpts{Actor: "ana"})
		require.NoError(t, err, metadata)
		job := roomtest.JobOf(t, env, uid)
		require.Equal(t, uid, job.UID)
		require.Equal(t, uid, result.UID)
		require.Equal(t, wire.UIDOfRow(id, job.EnqueuedAt.Time), job.UID)
		require.Len(t, job.Attempts, 1, metadata)
		require.Equal(t, "ana", job.Cancel.By, metadata)
	}
	list, _, err := env.Client.Jobs(ctx, jobs.JobFilter{})
	require.NoError(t, err)
	require.Len(t, list, 7)
}

// The handler's context ends, and what it did is rolled back.
func TestCancelAtWork(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	begun := make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[roomtest.Note]) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	job := roomtest.Enqueue(t, env)
	<-begun
	result, err := env.Client.Cancel(context.Background(), job.UID, &jobs.CancelOpts{Actor: "ana"})
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, result.State)
	require.Equal(t, jobs.Cancelled, env.Wait(job.UID).State)
	raw, err := json.Marshal(result)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"state":"cancelling"`)
}

// Of two rows with one UID the row that can still run is meant.
func TestTheLiveOfTwoRowsIsMeant(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.Do(t, env, `INSERT INTO river_job (id, kind, args, max_attempts) VALUES (900001, 'theirs', '{}', 3)`)
	uid := env.UIDOf(900001)
	roomtest.Do(t, env, `
INSERT INTO river_job (id, kind, args, max_attempts, state, finalized_at, metadata)
VALUES (900002, 'theirs', '{}', 3, 'cancelled', now(), jsonb_build_object('job_uid', $1::text))`, uid)
	result, err := env.Client.Cancel(ctx, uid, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelled, result.State)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id = 900001 AND state = 'cancelled'`))
}

package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Another program cancels and deletes jobs by River's own client, which knows no ledger.

// stock is such a program's client.
func stock(t *testing.T, env *jobstest.Env) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(env.Pool), &river.Config{Logger: env.Log})
	require.NoError(t, err)
	return client
}

// unguarded takes the triggers away that stand before other River clients.
func unguarded(t *testing.T, env *jobstest.Env) {
	t.Helper()
	for _, trigger := range []string{"headgate_foreign_ended", "headgate_foreign_deleted", "headgate_foreign_forgotten"} {
		_, err := env.Pool.Exec(context.Background(), `ALTER TABLE river_job DISABLE TRIGGER `+trigger)
		require.NoError(t, err)
	}
}

// givenBack makes a job wait for its second attempt: the first was lost.
func givenBack(t *testing.T, env *jobstest.Env, uid string) {
	t.Helper()
	lose(t, env, uid, time.Minute)
	_, err := env.Pool.Exec(context.Background(), `
UPDATE river_job SET state = 'retryable', scheduled_at = now() + interval '1 hour', attempted_by = headgate.void_claim(attempted_by) WHERE id = $1`, env.RowOf(uid))
	require.NoError(t, err)
}

func stateOf(t *testing.T, env *jobstest.Env, uid string) jobs.State {
	t.Helper()
	job, err := env.Client.Job(context.Background(), uid)
	require.NoError(t, err)
	return job.State
}

// River's JobCancel writes the final state of a job that waits, although its lost attempt may
// have had its effect, or may have it yet. With us the ledger is asked, as after our own Cancel.
func TestRiversCancelOfAJobThatWasBegun(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name                string
		opens, ends         bool // the lost attempt is there, and commits
		guarded             bool
		after, final        jobs.State
		effects             int
		refusesRetryBecause string
	}{
		{"its effect comes", true, true, true, jobs.Cancelling, jobs.Succeeded, 1, "its effect is done"},
		{"no effect comes", true, false, true, jobs.Cancelling, jobs.Cancelled, 0, "was stopped for good in its tenant's ledger"},
		{"nothing was left", false, false, true, jobs.Cancelling, jobs.Cancelled, 0, "was stopped for good in its tenant's ledger"},
		{"control: it is called cancelled and has its effect", true, true, false, jobs.Cancelled, jobs.Cancelled, 1, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			env, db, tenant := acme(t)
			ctx := t.Context()
			if !x.guarded {
				unguarded(t, env)
			}
			job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
			require.NoError(t, err)
			givenBack(t, env, job.UID)
			var open pgx.Tx
			if x.opens {
				open = zombie(t, db, tenant.OrgID, job.UID)
			}
			_, err = stock(t, env).JobCancel(ctx, env.RowOf(job.UID))
			require.NoError(t, err)
			require.Equal(t, x.after, stateOf(t, env, job.UID))
			if x.guarded {
				env.Work(lockSoon(env), ends)
			}
			switch {
			case x.ends:
				wakes(t, open, tenant.OrgID, job.UID)
			case x.opens:
				require.NoError(t, open.Rollback(ctx))
			}
			if x.guarded {
				require.Equal(t, x.final, env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State != jobs.Snoozed }).State)
			}
			require.Equal(t, x.final, stateOf(t, env, job.UID))
			require.Equal(t, x.effects, effects(t, db, job.UID))
			if x.guarded {
				after, err := env.Client.Job(ctx, job.UID)
				require.NoError(t, err)
				require.Equal(t, "through another River client", after.Cancel.Reason)
				_, err = env.Client.Retry(ctx, job.UID)
				require.ErrorContains(t, err, x.refusesRetryBecause)
			}
		})
	}
}

// A job that runs is cancelled as by our own client: its transaction is rolled back, and its
// ledger stops it.
func TestRiversCancelOfAJobThatRuns(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := t.Context()
	began := make(chan struct{}, 1)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			if err := end(ctx, tx, job); err != nil {
				return err
			}
			began <- struct{}{}
			_, err := tx.Exec(ctx, `SELECT pg_sleep(60)`)
			return err
		})
	})
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	receive(t, began)
	row, err := stock(t, env).JobCancel(ctx, env.RowOf(job.UID))
	require.NoError(t, err)
	require.EqualValues(t, "running", row.State)
	require.Equal(t, jobs.Cancelled, env.Wait(job.UID).State)
	require.Zero(t, effects(t, db, job.UID))
}

// A job that nobody has begun ends at once, as ever.
func TestRiversCancelOfAJobThatWasNeverBegun(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	job, err := env.Client.Enqueue(t.Context(), "acme", Ending{}, nil)
	require.NoError(t, err)
	row, err := stock(t, env).JobCancel(t.Context(), env.RowOf(job.UID))
	require.NoError(t, err)
	require.EqualValues(t, "cancelled", row.State)
	require.Equal(t, jobs.Cancelled, stateOf(t, env, job.UID))
}

// The leader of other River clients ends what runs for long, although nobody knows yet whether
// the worker lives that runs it. Headgate's own workers give such a job back.
func TestRiversRescuerOfAJobThatWasLost(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		guarded, cancel bool
		rescue          string
		after           jobs.State
	}{
		"to be cancelled":          {true, true, "cancelled", jobs.Cancelling},
		"to be cancelled, control": {false, true, "cancelled", jobs.Cancelled},
		"discarded":                {true, false, "discarded", jobs.Running},
		"discarded, control":       {false, false, "discarded", jobs.Discarded},
		"retried":                  {true, false, "retryable", jobs.Running},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, db, tenant := acme(t)
			ctx := t.Context()
			if !x.guarded {
				unguarded(t, env)
			}
			job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
			require.NoError(t, err)
			lose(t, env, job.UID, time.Minute)
			open := zombie(t, db, tenant.OrgID, job.UID)
			client, now := stock(t, env), time.Now()
			if x.cancel {
				_, err = client.JobCancel(ctx, env.RowOf(job.UID))
				require.NoError(t, err)
			}
			ended := []*time.Time{&now}
			if x.rescue == "retryable" {
				ended[0] = nil
			}
			_, err = client.Driver().GetExecutor().JobRescueMany(ctx, &riverdriver.JobRescueManyParams{
				ID: []int64{env.RowOf(job.UID)}, Error: [][]byte{[]byte(`{}`)}, FinalizedAt: ended, ScheduledAt: []time.Time{now}, State: []string{x.rescue}, StuckHorizon: now,
			})
			require.NoError(t, err)
			require.Equal(t, x.after, stateOf(t, env, job.UID))
			wakes(t, open, tenant.OrgID, job.UID)
			if x.guarded {
				env.Work(lockSoon(env), ends)
				require.Equal(t, jobs.Succeeded, env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State != jobs.Snoozed }).State)
			}
			require.Equal(t, 1, effects(t, db, job.UID))
		})
	}
}

// A row that was begun and has not ended is not deleted: its effect would come, or come
// again, and nobody would know.
func TestRiversDelete(t *testing.T) {
	t.Parallel()
	env, db, tenant := acme(t)
	ctx := t.Context()
	client := stock(t, env)
	enqueue := func() (uid string, id int64) {
		job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
		require.NoError(t, err)
		return job.UID, env.RowOf(job.UID)
	}
	begun, row := enqueue()
	givenBack(t, env, begun)
	open := zombie(t, db, tenant.OrgID, begun)
	refused := func(err error) {
		t.Helper()
		var said *pgconn.PgError
		require.ErrorAs(t, err, &said)
		require.Equal(t, "55006", said.Code)
		require.Contains(t, said.Message, "job "+begun)
		require.Contains(t, said.Message, "was begun and has not ended: its row stays")
		require.Contains(t, said.Hint, "headgate job cancel")
	}
	_, err := client.JobDelete(ctx, row)
	refused(err)
	_, err = client.JobDeleteMany(ctx, river.NewJobDeleteManyParams().IDs(row))
	refused(err)
	_, err = env.Pool.Exec(ctx, `DELETE FROM river_job WHERE id = $1`, row)
	refused(err)

	_, never := enqueue()
	_, err = client.JobDelete(ctx, never)
	require.NoError(t, err, "nobody has begun it")
	done, ended := enqueue()
	_, err = env.Client.Cancel(ctx, done, nil)
	require.NoError(t, err)
	_, err = client.JobDelete(ctx, ended)
	require.NoError(t, err, "it has ended")

	// Control: the row is gone, and its effect comes.
	unguarded(t, env)
	_, err = client.JobDelete(ctx, row)
	require.NoError(t, err)
	wakes(t, open, tenant.OrgID, begun)
	require.Equal(t, 1, effects(t, db, begun))
	_, err = env.Client.Job(ctx, begun)
	require.ErrorIs(t, err, jobs.ErrUnknownJob)
}

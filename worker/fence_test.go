package worker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// run is one execution of a handler, which ends when the test says how.
type run struct {
	info jobs.Info
	end  chan error
}

// receive waits for what a handler says, within a bound.
func receive[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came for 30 seconds")
	}
	return v
}

// sleeper is a worker process that was stopped and is awake again, as the queue
// sees it: its heartbeat stands still, and it goes on claiming.
func sleeper(env *jobstest.Env) worker.Config {
	cfg := env.Config()
	cfg.HeartbeatEvery, cfg.DeadAfter = time.Hour, 3*time.Hour
	return cfg
}

// undertaker is another process, which works nothing and declares dead what
// does not beat.
func undertaker(env *jobstest.Env) *worker.Config {
	cfg := withQueue(env.Config(), "elsewhere")
	cfg.HeartbeatEvery, cfg.DeadAfter = time.Second, 3*time.Second
	return &cfg
}

// A process is stopped, its job reaped, the process woken; it claims the same
// job again. What its first execution still has to say changes nothing.
func TestAnOldLeaseEndsNothing(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{
		"completed": nil,
		"retryable": errors.New("no such invoice"),
		"snoozed":   jobs.Snooze(time.Hour),
		"cancelled": jobs.Cancel(errors.New("the customer left")),
		"discarded": errors.New("the last attempt"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			env.Database("acme", jobstest.DatabaseOpts{})
			env.Tenant("acme", "acme")
			runs := make(chan run, 64)
			cfg := sleeper(env)
			env.Work(&cfg, func(w *worker.Worker) {
				worker.ReadOnly(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Ending]) error {
					r := run{job.Info, make(chan error, 1)}
					runs <- r
					select {
					case err := <-r.end:
						return err
					case <-ctx.Done():
						return ctx.Err()
					}
				})
			})
			opts := &jobs.EnqueueOpts{Timeout: time.Minute}
			if name == "discarded" {
				opts.MaxAttempts = 1
			}
			result, err := env.Client.Enqueue(context.Background(), "acme", Ending{}, opts)
			require.NoError(t, err)
			first := receive(t, runs)
			other := env.Work(undertaker(env), func(w *worker.Worker) { worker.InTx(w, transfer) })
			second := receive(t, runs)
			// The sleeper will not fence itself here; what it claims from now on
			// would be taken from it again.
			require.NoError(t, other.Stop(context.Background()))
			require.Equal(t, first.info.UID, second.info.UID)
			require.Equal(t, 1, second.info.Attempt, "the death used an attempt")
			before := rowOf(t, env, env.RowOf(result.UID))

			first.end <- end
			lost := env.WaitFor(result.UID, func(o jobs.Outcome) bool { return o.Class == "lost_worker" })
			require.Equal(t, jobs.Snoozed, lost.State)
			// A second job ends in the same groups; when it is done, so is the first's.
			later, err := env.Client.Enqueue(context.Background(), "acme", Ending{How: "other"}, nil)
			require.NoError(t, err)
			third := receive(t, runs)
			third.end <- nil
			env.Wait(later.UID)
			require.Equal(t, before, rowOf(t, env, env.RowOf(result.UID)), "the old lease changed the row")

			second.end <- nil
			got := env.Wait(result.UID)
			require.Equal(t, jobs.Succeeded, got.State)
			attempts, err := env.Attempts(context.Background(), result.UID)
			require.NoError(t, err)
			require.Len(t, attempts, 2, "the lost attempt and the one that succeeded, and nothing of the old lease")
		})
	}
}

// rowOf is all that an end could change.
func rowOf(t *testing.T, env *jobstest.Env, id int64) (row string) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(),
		`SELECT concat_ws(' ', state, attempt, attempted_by, finalized_at, scheduled_at, errors, metadata) FROM river_job WHERE id = $1`, id).Scan(&row))
	return row
}

// A process that finds itself declared dead cancels what it runs, goes on as
// another incarnation, and works again.
func TestAWokenWorkerFencesItself(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	began := make(chan struct{}, 4)
	var blocked = make(chan struct{})
	cfg := env.Config()
	cfg.HeartbeatEvery, cfg.DeadAfter = 50*time.Millisecond, time.Hour
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			began <- struct{}{}
			select {
			case <-blocked:
				return end(ctx, tx, job)
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	receive(t, began)
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.workers SET reaped_at = now()`) // somebody else's verdict
	require.NoError(t, err)
	held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.ClassInterrupted, held.Class)
	require.Contains(t, held.Message, "declared dead")
	receive(t, began)
	close(blocked)
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt)
	var incarnations, alive int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE reaped_at IS NULL) FROM headgate.workers`).Scan(&incarnations, &alive))
	require.Equal(t, []int{2, 1}, []int{incarnations, alive})
}

// A worker that stops in order leaves nobody to mark dead.
func TestAStoppedWorkerIsNotReaped(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	w := env.Work(nil, func(w *worker.Worker) { worker.InTx(w, transfer) })
	require.NoError(t, w.Stop(context.Background()))
	const stopped = `SELECT count(*) = 1 FROM headgate.workers WHERE ended_at IS NOT NULL AND draining AND reaped_at IS NULL`
	awaitTrue(t, env, "it has ended", stopped)
	cfg := beatEvery(env.Config(), quickBeat)
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, transfer) })
	awaitTrue(t, env, "another has looked for the dead for long enough", `SELECT count(*) = 1 FROM headgate.workers WHERE ended_at IS NULL AND beats >= 8`)
	awaitTrue(t, env, "it was not reaped", stopped)
}

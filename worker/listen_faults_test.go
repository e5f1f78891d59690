//go:build faults

package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// listenFor is how long jobs are enqueued while the listener fails.
func listenFor() time.Duration {
	if testing.Short() {
		return 6 * time.Second
	}
	return 40 * time.Second
}

// The connection that listens for new work is terminated again and again: jobs
// are picked up within two seconds all the same.
func TestFaultsListenerTerminated(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", 4, nil)
	cfg := defaultTimes(env)
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	terminated := 0
	list := enqueueFor(t, env, tenants, func() {
		var n int
		require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND query ILIKE 'listen %' AND pid <> pg_backend_pid()`).Scan(&n))
		terminated += n
	})
	pickUp(t, env, tenants, list)
	t.Logf("the listener was terminated %d times", terminated)
	require.GreaterOrEqual(t, terminated, 3, "too few faults")
}

// Nothing arrives any more on the connection that listens, and nobody says so:
// jobs are picked up within two seconds, and a cancel reaches a running job
// within a minute.
func TestFaultsListenerBlackHoled(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", 4, nil)
	wire := newProxy(t, env.URL, nil)
	pool, err := pgxpool.New(context.Background(), wire.url(t, env.URL))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	cfg := defaultTimes(env)
	cfg.Pool = pool
	began := make(chan struct{}, 1)
	env.Work(&cfg, func(w *worker.Worker) {
		registerVictimKinds(w, func(string) {})
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			began <- struct{}{}
			_, err := tx.Exec(ctx, `SELECT pg_sleep(200)`)
			return err
		})
	})
	holes := 0
	list := enqueueFor(t, env, tenants, func() { holes += wire.silence() })
	pickUp(t, env, tenants, list)
	require.NotZero(t, holes, "no listener was black-holed")
	if testing.Short() {
		return
	}
	ctx := context.Background()
	opts := enqueueTo(victimQueue)
	opts.Timeout = 4 * time.Minute // Ending's own is short
	result, err := env.Client.Enqueue(ctx, tenants[0].tenant.Slug, Ending{}, opts)
	require.NoError(t, err)
	receive(t, began)
	holes += wire.silence()
	asked := time.Now()
	_, err = env.Client.Cancel(ctx, result.UID, nil)
	require.NoError(t, err)
	took := awaitCancelled(t, env, result.UID).Sub(asked)
	t.Logf("%d LISTENs black-holed; a cancel reached a running job after %s", holes, took.Round(time.Millisecond))
	require.LessOrEqual(t, took, time.Minute)
}

// awaitCancelled waits until a job is cancelled, and returns when that was.
func awaitCancelled(t *testing.T, env *jobstest.Env, uid string) time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		attempts, err := env.Attempts(ctx, uid)
		for _, o := range attempts {
			if o.State == jobs.Cancelled {
				return o.EndedAt
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the job is not cancelled after 100 s: %v", err)
		case <-tick.C:
		}
	}
}

// defaultTimes is a worker with the product's own times.
func defaultTimes(env *jobstest.Env) worker.Config {
	return worker.Config{Pool: env.Pool, Resolver: env.Catalog, Logger: quietLogger(), Queues: map[string]int{victimQueue: 8}}
}

// enqueueFor enqueues a short job every 100 ms for a while, and does the fault
// every half second.
func enqueueFor(t *testing.T, env *jobstest.Env, tenants []bankTenant, fault func()) map[string]order {
	t.Helper()
	list := map[string]order{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(listenFor())
	for i := 0; time.Now().Before(end); i++ {
		<-tick.C
		if i%5 == 0 {
			fault()
		}
		accept(t, env, tenants, i, SlowTransfer{Transfer: upward(i / len(tenants))}, list)
	}
	return list
}

// pickUp waits for all jobs and asserts how soon they were begun.
func pickUp(t *testing.T, env *jobstest.Env, tenants []bankTenant, list map[string]order) {
	t.Helper()
	waitUntilDone(t, env, 30*time.Second)
	rows, err := env.Pool.Query(context.Background(), `
SELECT extract(epoch FROM o.started_at - j.created_at) FROM river_job j JOIN headgate.outcomes o ON o.job_id = j.id WHERE j.kind = 'slow-transfer'`)
	require.NoError(t, err)
	waits, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	require.NoError(t, err)
	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	p99 := percentile(waits, 0.99)
	t.Logf("%d jobs: %d doubled, %d missing; picked up after %.2f s (p50), %.2f s (p99)", of, doubled, missing, percentile(waits, 0.5), p99)
	require.Zero(t, doubled+missing)
	require.Len(t, waits, of)
	require.LessOrEqual(t, p99, 2.0)
}

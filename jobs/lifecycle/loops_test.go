package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/lifecycle"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/claim"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// loop is what all that works in the background has.
type loop interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Run(ctx context.Context) error
}

// loops makes one of each.
func loops(t *testing.T, env *jobstest.Env) map[string]loop {
	t.Helper()
	janitor, err := retention.New(retention.Config{Pool: env.Pool, Selectors: env.Schedules.Templates, Logger: env.Log})
	require.NoError(t, err)
	w, err := worker.New(env.Config())
	require.NoError(t, err)
	worker.NoConn(w, func(context.Context, *jobs.Job[rest]) error { return nil })
	return map[string]loop{
		"scheduler": schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{}),
		"janitor":   janitor,
		"listener":  catalog.NewListener(env.Catalog, catalog.ListenerConfig{Logger: env.Log}),
		"keeper": claim.NewKeeper(claim.KeeperConfig{
			Pool: env.Pool, Lease: claim.NewLease(), Worker: "w", Kinds: []string{"x"}, Queues: []string{"default"},
			Every: 10 * time.Millisecond, DeadAfter: time.Hour, Fenced: func() { t.Error("fenced") }, Logger: env.Log,
		}),
		"worker": w,
	}
}

// rest is a job that does nothing.
type rest struct{}

func (rest) Kind() string { return "rest" }

// Every loop has the same life, and leaves no goroutine behind. These run one after
// another, because goroutines are counted.
func TestEveryLoopHasTheSameLife(t *testing.T) { //nolint:paralleltest // goroutines are counted
	env := jobstest.New(t)
	for name, l := range loops(t, env) { //nolint:paralleltest // see above
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			before := goleak.IgnoreCurrent()
			gone, end := context.WithCancelCause(ctx)
			errGone := errors.New("gone")
			end(errGone)

			require.NoError(t, l.Stop(ctx), "stopped without a start")
			require.ErrorIs(t, l.Run(gone), errGone)
			require.ErrorIs(t, l.Start(gone), errGone)
			for range 2 {
				require.NoError(t, l.Start(ctx), "also after a start that failed, and after a stop")
				require.ErrorIs(t, l.Start(ctx), lifecycle.ErrRunning)
				require.ErrorIs(t, l.Run(ctx), lifecycle.ErrRunning)
				require.NoError(t, l.Stop(ctx))
				require.NoError(t, l.Stop(ctx))
			}

			running, stop := context.WithCancel(ctx)
			why := make(chan error, 1)
			go func() { why <- l.Run(running) }()
			require.Eventually(t, func() bool { return errors.Is(l.Start(gone), lifecycle.ErrRunning) }, 30*time.Second, time.Millisecond)
			stop()
			require.NoError(t, <-why, "its context has ended")
			require.NoError(t, l.Start(ctx), "it has stopped")
			require.NoError(t, l.Stop(ctx))
			env.Pool.Reset() // of its connections the pool makes new ones
			goleak.VerifyNone(t, before)
		})
	}
}

// A worker that was stopped works again, under a new incarnation, and all of them are
// signed off.
func TestAWorkerThatWasStoppedWorksAgain(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	env.Database("acme", jobstest.DatabaseOpts{})
	env.Tenant("acme", "acme")
	w, err := worker.New(env.Config())
	require.NoError(t, err)
	worker.NoConn(w, func(context.Context, *jobs.Job[rest]) error { return nil })
	for range 3 {
		require.NoError(t, w.Start(ctx))
		require.Equal(t, jobs.Succeeded, env.Run("acme", rest{}).State)
		require.NoError(t, w.Stop(ctx))
	}
	var incarnations, living int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM headgate.workers`).Scan(&incarnations, &living))
	require.Equal(t, 3, incarnations)
	require.Zero(t, living)
}

// A keeper that is started again has an incarnation of its own, and its heart beats.
func TestAKeeperThatWasStoppedHasANewIncarnation(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	lease := claim.NewLease()
	k := claim.NewKeeper(claim.KeeperConfig{
		Pool: env.Pool, Lease: lease, Worker: "w", Kinds: []string{"x"}, Queues: []string{"default"},
		Every: 10 * time.Millisecond, DeadAfter: time.Hour, Fenced: func() { t.Error("fenced") }, Logger: env.Log,
	})
	first := lease.Incarnation()
	for range 2 {
		require.NoError(t, k.Start(ctx))
		require.Eventually(t, func() bool {
			var beats int
			err := env.Pool.QueryRow(ctx, `SELECT beats FROM headgate.workers WHERE incarnation = $1 AND ended_at IS NULL`, lease.Incarnation()).Scan(&beats)
			return err == nil && beats > 0
		}, 30*time.Second, 5*time.Millisecond)
		require.NoError(t, k.Stop(ctx))
	}
	require.NotEqual(t, first, lease.Incarnation())
}

package worker_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Sweep is a kind of which there can be a verifier.
type Sweep struct{ Ending }

func (Sweep) Kind() string { return "sweep" }

func (Sweep) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Verifiable} }

// Whatever is registered wrongly is said by Start, all of it at once; nothing panics.
func TestAKindWithoutAHandlerIsRefused(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	onConn := func(context.Context, *pgx.Conn, *jobs.Job[Sweep]) error { return nil }
	for want, register := range map[string]func(*worker.Worker){
		"kind ending is registered without a handler":                                       func(w *worker.Worker) { worker.InTx[Ending](w, nil) },
		"kind ending is registered without a handler: give the function that does its work": func(w *worker.Worker) { worker.ReadOnly[Ending](w, nil) },
		"kind ending is registered without a handler: give":                                 func(w *worker.Worker) { worker.NoConn[Ending](w, nil) },
		"kind sweep is registered without a handler":                                        func(w *worker.Worker) { worker.OnConn[Sweep](w, nil) },
		"kind sweep is registered without a handler: give":                                  func(w *worker.Worker) { worker.OnConnVerified[Sweep](w, nil, nil) },
		"kind sweep is registered without a verifier":                                       func(w *worker.Worker) { worker.OnConnVerified(w, onConn, nil) },
		"a kind is registered with jobs.Args, which is no kind's own type": func(w *worker.Worker) {
			worker.NoConn(w, func(context.Context, *jobs.Job[jobs.Args]) error { return nil })
		},
	} {
		w, err := worker.New(env.Config())
		require.NoError(t, err)
		register(w)
		require.ErrorContains(t, w.Start(context.Background()), want)
	}
	w, err := worker.New(env.Config())
	require.NoError(t, err)
	worker.InTx[Ending](w, nil)
	worker.OnConn[Sweep](w, nil)
	err = w.Start(context.Background())
	require.ErrorContains(t, err, "kind ending is registered without a handler")
	require.ErrorContains(t, err, "kind sweep is registered without a handler")
}

// A handler may take its arguments by pointer.
func TestAKindMayBeAPointer(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) {
		worker.NoConn(w, func(_ context.Context, job *jobs.Job[*Ending]) error {
			job.Result.Output = job.Args.How
			return nil
		})
	})
	got := env.Run("acme", &Ending{How: "well"})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, "well", got.Result.Output)
}

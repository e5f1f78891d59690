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

// gaveUp runs a job whose handler ignores the end of its context until deaf is closed, and
// returns what the worker has logged when the handler is over, and the attempt's end, which
// came before.
func gaveUp(t *testing.T, handler func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Deaf], deaf <-chan struct{}) error) (env *jobstest.Env, log *logged, end jobs.Outcome) {
	t.Helper()
	env = jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	log = &logged{}
	cfg.Logger, cfg.StuckAfter, cfg.Tenants.CancelWait = lockedLogger(log), 100*time.Millisecond, 50*time.Millisecond
	deaf := make(chan struct{})
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Deaf]) error { return handler(ctx, tx, job, deaf) })
	})
	end = env.Run("acme", Deaf{})
	require.Equal(t, jobs.ClassTimeout, end.Class)
	close(deaf)
	require.Eventually(t, func() bool { return len(linesOf(t, log.String(), "a stuck handler has returned")) == 1 }, time.Minute, 5*time.Millisecond)
	require.NoError(t, w.Stop(t.Context()))
	return env, log, end
}

// A handler that ignores the end of its context keeps what it had logged by then, and what
// it logs later reaches the worker's log only.
func TestLinesOfAStuckHandler(t *testing.T) {
	t.Parallel()
	env, log, end := gaveUp(t, func(_ context.Context, _ pgx.Tx, job *jobs.Job[Deaf], deaf <-chan struct{}) error {
		job.Log().Info("in time")
		<-deaf
		job.Log().Info("too late")
		return nil
	})
	kept := logsOf(t, env, end.JobUID)
	require.Len(t, kept, 1)
	require.Equal(t, "in time", kept[0].Message)
	require.Len(t, linesOf(t, log.String(), "too late"), 1)
}

// A handler that returns after it was given up tells nothing of a
// row, if its error has only the words of the server.
func TestWordsOfAStuckHandler(t *testing.T) {
	t.Parallel()
	_, log, _ := gaveUp(t, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Deaf], deaf <-chan struct{}) error {
		texts, _ := failTimes(ctx, tx, 1, jobstest.PlantedEmail)
		<-deaf
		return errors.New(texts[0])
	})
	require.False(t, tells(log.String(), jobstest.PlantedEmail), log)
	require.Contains(t, log.String(), "invalid_text_representation")
}

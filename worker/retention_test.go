package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Rows of ended jobs leave the queue when the configuration says so. Of a job
// whose row is gone the history still tells, and a retry says why it cannot be.
func TestRetention(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	first := env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })
	ago := map[string]time.Duration{}
	run := func(how string, since time.Duration) string {
		t.Helper()
		result, err := env.Client.Enqueue(ctx, "acme", Ending{How: how}, &jobs.EnqueueOpts{MaxAttempts: 1})
		require.NoError(t, err)
		ago[result.UID] = since
		return result.UID
	}
	gone := map[string]string{
		"succeeded": run("", 2*time.Hour),
		"discarded": run("error", 4*24*time.Hour),
	}
	stay := []string{
		run("", 30*time.Minute),
		run("cancel", 10*365*24*time.Hour),
		run("error", 2*24*time.Hour),
	}
	for uid := range ago {
		env.Wait(uid)
	}
	require.NoError(t, first.Stop(ctx)) // it would delete by its own configuration
	for uid, since := range ago {
		_, err := env.Pool.Exec(ctx, `UPDATE river_job SET finalized_at = now() - $2::interval WHERE metadata->>'job_uid' = $1`, uid, since)
		require.NoError(t, err)
	}

	cfg := env.Config()
	cfg.KeepSucceeded, cfg.KeepCancelled, cfg.KeepDiscarded = time.Hour, -time.Second, 3*24*time.Hour
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
	awaitTrue(t, env, "two rows left the queue", `SELECT count(*) = 3 FROM river_job`)
	for _, uid := range stay {
		job, err := env.Client.Job(ctx, uid)
		require.NoError(t, err)
		require.NotEmpty(t, job.State)
	}
	for state, uid := range gone {
		attempts, err := env.Attempts(ctx, uid)
		require.NoError(t, err)
		require.Len(t, attempts, 1)
		require.Equal(t, jobs.State(state), attempts[0].State)
		why, err := env.Explain.Explain(ctx, uid)
		require.NoError(t, err)
		require.Contains(t, why.Facts[0].Fact, "its row has left the queue; its last attempt ")
		require.Contains(t, why.Facts[0].Fact, state)
		_, err = env.Client.Retry(ctx, uid)
		require.ErrorIs(t, err, jobs.ErrRetryRefused)
		require.ErrorContains(t, err, "its row has left the queue; the history does not keep arguments, so enqueue it anew")
	}
}

// What a duration may be, and what none means.
func TestRetentionIsChecked(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	for name, change := range map[string]func(*worker.Config){
		"KeepSucceeded is 1s":  func(c *worker.Config) { c.KeepSucceeded = time.Second },
		"KeepCancelled is 59s": func(c *worker.Config) { c.KeepCancelled = 59 * time.Second },
		"KeepDiscarded is 1ns": func(c *worker.Config) { c.KeepDiscarded = 1 },
	} {
		cfg := env.Config()
		change(&cfg)
		_, err := worker.New(cfg)
		require.ErrorContains(t, err, name+": give 1m0s or more, or a negative value")
	}
}

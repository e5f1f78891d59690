package main

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// waiter asks the central database again until it answers as hoped.
type waiter struct {
	t    *testing.T
	pool *pgxpool.Pool
}

// until waits until a query counts more than nothing.
func (w *waiter) until(sql string, args ...any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		require.NoError(w.t, w.pool.QueryRow(ctx, sql, args...).Scan(&n), sql)
		if n > 0 {
			return
		}
		<-tick.C
	}
}

// serve fires schedules, worker does not; both stop cleanly.
func TestServeAndWorker(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE events (at timestamptz); GRANT ALL ON events TO headgate_job`})
	env.Tenant("acme", "db")
	wait := &waiter{t, env.Pool}
	c.ok("schedule", "create", "often", "--tenant", "acme", "--kind", "headgate.purge", "--cron", "@every 10s", "--args", `{"table": "events", "column": "at", "older_than": "1d"}`)
	_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.schedules SET next_run_at = now()`)
	require.NoError(t, err)

	worker := c.start("worker", "--reports", t.TempDir(), "--slots", "0", "--queue", "side=2")
	worker.err.await(t, "ready")
	side := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--queue", "side", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
	wait.until(awaitedStates, side)
	require.Equal(t, "0", ask(t, env.Pool.Config().ConnConfig.Database, `SELECT count(*) FROM river_job WHERE queue = 'default'`), "a worker fires no schedule")
	require.Equal(t, cli.ExitOK, worker.end(), worker.err.String())
	require.Contains(t, worker.err.String(), "stopped")

	serving := c.start("serve", "--reports", t.TempDir())
	wait.until(`SELECT count(*) FROM headgate.outcomes WHERE schedule = 'often' AND state = 'succeeded'`)
	require.Equal(t, cli.ExitOK, serving.end(), serving.err.String())
}

// The first signal lets a running job end, the second ends at once.
func TestSignals(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "db")
	wait := &waiter{t, env.Pool}

	cmd, out := c.process("serve", "--reports", t.TempDir())
	require.NoError(t, cmd.Start())
	out.await(t, "ready")
	c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "slow", "query": "SELECT pg_sleep(600)"}`)
	wait.until(`SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid() AND state = 'active' AND datname LIKE 'hg\_%'`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	out.await(t, "a second signal ends at once")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the exit code says how
	require.Equal(t, cli.ExitInterrupted, cmd.ProcessState.ExitCode(), out.String())

	cmd, out = c.process("worker", "--reports", t.TempDir())
	require.NoError(t, cmd.Start())
	out.await(t, "ready")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), out.String())
	require.Contains(t, out.String(), "reason=\"interrupted (interrupt)\"")
}

// Two sealed passwords that do not fit are told as what they are, and the
// password is in no output.
func TestWrongPasswordInTheCatalog(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "db")
	c.secrets = append(c.secrets, db.Job.Password.Reveal(), db.Owner.Password.Reveal())
	admin(t, "postgres", "ALTER ROLE "+db.Job.User+" PASSWORD 'another'")
	uid := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))

	serving := c.start("serve", "--reports", t.TempDir(), "--log-level", "debug")
	(&waiter{t, env.Pool}).until(`SELECT count(*) FROM headgate.outcomes WHERE job_uid = $1 AND class = 'auth_failed'`, uid)
	shown := c.ok("job", "show", uid)
	require.Contains(t, shown, "auth_failed")
	require.Contains(t, shown, "headgate database login")
	require.Equal(t, cli.ExitOK, serving.end())
	require.Contains(t, serving.err.String(), "class=auth_failed")
}

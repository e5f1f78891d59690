package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

const listeners = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN headgate_catalog'`

// A worker listens, for as long as it runs; past a pooler, or not if there is no way past it.
func TestAWorkerListensToTheCatalog(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	wait := &waiter{t, env.Pool}
	for _, with := range []*commandLine{c, c.with("DATABASE_DIRECT_URL", env.URL)} {
		worker := with.start("worker", "--reports", t.TempDir())
		worker.err.await(t, "ready")
		wait.until(listeners)
		require.Equal(t, cli.ExitOK, worker.end(), worker.err.String())
		wait.until(`SELECT 1 - (` + listeners + `)`)
	}
	worker := c.with("HEADGATE_CENTRAL_POOLER", "transaction").with("DATABASE_DIRECT_URL", "").start("worker", "--reports", t.TempDir())
	worker.err.await(t, "ready")
	require.Equal(t, "0", ask(t, env.Pool.Config().ConnConfig.Database, listeners))
	require.Equal(t, cli.ExitOK, worker.end(), worker.err.String())

	r := c.with("DATABASE_DIRECT_URL", "planted").run("worker", "--reports", t.TempDir())
	require.Equal(t, cli.ExitUsage, r.code)
	require.Contains(t, r.err, "DATABASE_DIRECT_URL is not a PostgreSQL connection string")
}

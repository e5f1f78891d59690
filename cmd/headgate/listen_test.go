package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const listeners = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN headgate_catalog'`

// A worker listens, for as long as it runs; at another address, or not, by choice.
func TestAWorkerListensToTheCatalog(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	wait := &waiter{t, env.Pool}
	for _, with := range []*cli{c, c.with(listenVariable, env.URL)} {
		worker := with.start("worker", "--reports", t.TempDir())
		wait.until(listeners)
		require.Equal(t, exitOK, worker.end(), worker.err.String())
		wait.until(`SELECT 1 - (` + listeners + `)`)
	}
	worker := c.with(listenVariable, "none").start("worker", "--reports", t.TempDir())
	worker.err.await(t, "ready")
	require.Equal(t, "0", ask(t, env.Pool.Config().ConnConfig.Database, listeners))
	require.Equal(t, exitOK, worker.end(), worker.err.String())

	r := c.with(listenVariable, "planted").run("worker", "--reports", t.TempDir())
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, listenVariable+" is not a PostgreSQL connection string")
}

//go:build faults && linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Ten thousand tenants in the catalog, a thousand of one shared database with
// work: a worker process with 8 slots and default times has at most 8 connections
// there and none elsewhere, no goroutine for each tenant, and no connection once
// it has been idle for its time. The smoke has a tenth of them, and does not wait
// for that time, which is half a minute.
func TestFaultsTenThousandTenants(t *testing.T) {
	t.Parallel()
	const slots = 8
	tenants, touched := 10_000, 1000
	if testing.Short() {
		tenants, touched = 1000, 100
	}
	ctx := context.Background()
	c, env := setup(t)
	c.set("GOTRACEBACK", "all")
	busy := env.Database("busy", jobstest.DatabaseOpts{Kind: "shared"})
	databases, params := []string{"busy"}, make([]catalog.TenantParams, tenants)
	for i := range 9 {
		databases = append(databases, env.Database(fmt.Sprintf("quiet-%d", i), jobstest.DatabaseOpts{Kind: "shared"}).Name)
	}
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: databases[i/touched]}
	}
	_, err := env.Catalog.AddTenants(ctx, params)
	require.NoError(t, err)
	sessions := func() map[string]int {
		list := map[string]int{}
		for _, name := range databases[1:] {
			var n int
			require.NoError(t, env.Pool.QueryRow(ctx, `SELECT sessions FROM pg_stat_database d JOIN headgate.databases h ON h.dbname = d.datname WHERE h.name = $1`, name).Scan(&n))
			list[name] = n
		}
		return list
	}
	quiet := sessions()

	cmd, output := c.process("worker", "--slots", strconv.Itoa(slots))
	require.NoError(t, cmd.Start())
	output.await(t, "worker started")
	first := memory(t, cmd.Process.Pid, "VmRSS:")
	enqueue := make([]jobs.EnqueueParams, 0, 2*touched)
	for i := range 2 * touched {
		enqueue = append(enqueue, jobs.EnqueueParams{Tenant: params[i%touched].Slug, Args: sqlscript.Args{SQL: "SELECT pg_sleep(0.002)"}})
	}
	_, err = env.Client.EnqueueMany(ctx, enqueue)
	require.NoError(t, err)
	connections := func() (n int) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, busy.Job.User).Scan(&n))
		return n
	}
	most, began := 0, time.Now()
	require.Eventually(t, func() bool {
		most = max(most, connections())
		var left int
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE state <> 'completed'`).Scan(&left))
		return left == 0
	}, 2*time.Minute, 20*time.Millisecond)
	took := time.Since(began)
	idle := time.Now()
	if !testing.Short() {
		require.Eventually(t, func() bool { return connections() == 0 }, time.Minute, 100*time.Millisecond)
	}
	closed, left := time.Since(idle), connections()
	rss, peak := memory(t, cmd.Process.Pid, "VmRSS:"), memory(t, cmd.Process.Pid, "VmHWM:")
	require.Equal(t, quiet, sessions(), "a database with nothing due was opened")
	require.NoError(t, cmd.Process.Signal(syscall.SIGQUIT)) // prints every goroutine
	require.Error(t, cmd.Wait())
	goroutines := strings.Count(output.String(), "\ngoroutine ")

	t.Logf("%d tenants, %d of them with work, %d slots, %.1f s: at most %d connections, %d MB (peak %d, %d at the start), %d goroutines, %d connections after %.0f s; nine other databases saw no session",
		tenants, touched, slots, took.Seconds(), most, rss>>20, peak>>20, first>>20, goroutines, left, closed.Seconds())
	require.LessOrEqual(t, most, slots)
	require.Positive(t, goroutines)
	require.Less(t, goroutines, 150)
	require.Less(t, peak, int64(250<<20))
}

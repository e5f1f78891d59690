package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/report"
)

// A report of a million rows goes through a worker process whose memory stays
// flat: it holds no rows, only what is under way.
func TestMillionRowsThroughTheWorker(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("big", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("big", "big")
	folder := t.TempDir()
	cmd, output := c.process("worker", "--reports", folder)
	require.NoError(t, cmd.Start())
	output.await(t, "worker started")
	before := peakMemory(t, cmd.Process.Pid)

	got := env.Run("big", report.Args{Name: "million", Query: `
		SELECT n AS id, 'customer ' || n AS name, md5(n::text) AS token, n * 1.5 AS amount FROM generate_series(1, 1000000) AS n`})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.EqualValues(t, 1_000_000, got.Result.Rows)
	file, err := os.Stat(filepath.Join(folder, got.Result.Output))
	require.NoError(t, err)
	after := peakMemory(t, cmd.Process.Pid)
	t.Logf("1,000,000 rows, %d MB of CSV in %s: peak memory of the worker process %d MB, %d MB before the job",
		file.Size()>>20, got.EndedAt.Sub(got.StartedAt).Round(1e6), after>>20, before>>20)
	require.Less(t, after, before+128<<20, "the rows are held in memory")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), output.String())
}

// peakMemory is the most that a process has had in memory at once, in bytes.
func peakMemory(t *testing.T, pid int) int64 { return memory(t, pid, "VmHWM:") }

// memory is a line of a process's status, in bytes.
func memory(t *testing.T, pid int, line string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(status), line)
	require.True(t, found)
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(t, err)
	return kb << 10
}

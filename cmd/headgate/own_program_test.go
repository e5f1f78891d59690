package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// The program of docs/telemetry.md answers about its health and its metrics, drains when it
// is told to end, and ends in order.
func TestTheProgramWithHealth(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	port, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := port.Addr().String()
	program, output := exec.Command(pageProgram(t, "telemetry.md", 55)), newWatched()
	require.NoError(t, port.Close())
	program.Env = append(os.Environ(), "DATABASE_URL="+env.URL, "HEADGATE_KEY="+env.Key, "HEALTH="+addr)
	program.Stdout, program.Stderr = output, output
	require.NoError(t, program.Start())
	t.Cleanup(func() { _ = program.Process.Kill() }) // an error says that it has ended

	require.Eventually(t, func() bool { return asked(c, addr, "readyz").code == cli.ExitOK }, time.Minute, 20*time.Millisecond, "%s", output)
	require.Equal(t, "ok   worker loop\nok   draining\nok   heartbeat\nok   claims\nok   central schema\n", asked(c, addr, "readyz").out)
	require.Equal(t, cli.ExitOK, asked(c, addr, "startupz").code)
	job, err := env.Client.Enqueue(t.Context(), "acme", Charge{Cents: 700}, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
	require.Eventually(t, func() bool {
		return strings.Contains(scrape(t, addr), `headgate_attempts_total{headgate_class="",headgate_kind="charge",headgate_server="`+jobstest.Server+`",headgate_state="succeeded"} 1`)
	}, time.Minute, 20*time.Millisecond)

	admin(t, env.Pool.Config().ConnConfig.Database, `INSERT INTO headgate.migrations (version, name, serves) VALUES (9999, 'contract', 9999)`)
	require.Eventually(t, func() bool { return strings.Contains(asked(c, addr, "readyz").out, "fail central schema: ") }, time.Minute, 20*time.Millisecond)
	require.Equal(t, "ok   worker loop\n", asked(c, addr, "livez").out)
	admin(t, env.Pool.Config().ConnConfig.Database, `DELETE FROM headgate.migrations WHERE version = 9999`)

	require.NoError(t, program.Process.Signal(syscall.SIGTERM))
	require.NoError(t, program.Wait(), "%s", output)
}

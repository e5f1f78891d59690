//go:build faults && linux

package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// A read address is tried before it is stored, is shown nowhere, and can be taken out
// again. doctor says whether it leads to a replica that is near, and what to do where not.
func TestFaultsReadAddress(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	settings := map[string]string{"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on", "fsync": "off"}
	start := func(dir string) *localpg.Server {
		server, err := localpg.Start(context.Background(), localpg.Config{Dir: dir, Settings: settings})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Stop()) })
		return server
	}
	primary := start("")
	db := env.Database("acme-db", jobstest.DatabaseOpts{On: &jobstest.Postgres{Name: "one", URL: primary.URL}})
	env.Tenant("acme", "acme-db")
	standby := start(jobstest.BaseBackup(t, primary, "--write-recovery-conf"))
	on, err := pgx.Connect(t.Context(), standby.URL(db.Job.Database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = on.Close(context.Background()) })
	address := func(host string, port int, password string) string {
		return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", host, port, db.Job.User, password, db.Job.Database)
	}
	read := address(standby.SocketDir(), standby.Port(), db.Job.Password.Reveal())
	c.secrets = append(c.secrets, db.Job.Password.Reveal())
	login := []string{"database", "login", "acme-db"}
	list := func() string { return c.ok("database", "list", "-o", "json") }

	c.with("HEADGATE_JOB_READ_URL", read).fails(cli.ExitUsage, login, "is not one of the server's hosts")
	_, err = env.Pool.Exec(t.Context(), `UPDATE headgate.servers SET hosts = hosts || $1::text WHERE name = 'one'`, standby.SocketDir())
	require.NoError(t, err)
	c.with("HEADGATE_JOB_READ_URL", address(standby.SocketDir(), standby.Port(), "planted-wrong")).fails(cli.ExitNotPermitted, login, "the server refuses it")
	c.with("HEADGATE_JOB_READ_URL", address(primary.SocketDir(), primary.Port(), db.Job.Password.Reveal())).
		fails(cli.ExitUsage, login, "takes writes: give the address of a replica of it")
	c.with("HEADGATE_JOB_READ_URL", read).fails(cli.ExitUsage, append(login, "--no-job-read"), "leave it out")
	require.Contains(t, list(), `"read_address": false`)

	r := c.with("HEADGATE_JOB_READ_URL", read).run(login...)
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "the job login's read address is replaced")
	require.Contains(t, list(), `"read_address": true`)
	require.NotContains(t, list()+r.out+r.err, standby.SocketDir(), "the address is shown nowhere")
	require.Regexp(t, `read address: it leads to a replica of the primary, whose rows are at most \d+m?s old`, c.ok("doctor", "--tenant", "acme", "--all"))

	_, err = on.Exec(t.Context(), `SELECT pg_wal_replay_pause()`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `CREATE TABLE later ()`)
	require.NoError(t, err)
	require.Contains(t, c.ok("doctor", "--tenant", "acme"), "has not replayed what its primary had", "a warning")
	_, err = on.Exec(t.Context(), `SELECT pg_promote()`)
	require.NoError(t, err)
	require.Eventually(t, func() (promoted bool) {
		require.NoError(t, on.QueryRow(t.Context(), `SELECT NOT pg_is_in_recovery()`).Scan(&promoted))
		return promoted
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, c.run("doctor", "--tenant", "acme").out, "it was promoted")

	r = c.run(append(login, "--no-job-read")...)
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "it has no read address")
	require.Contains(t, list(), `"read_address": false`)
	require.NotContains(t, c.ok("doctor", "--tenant", "acme", "--all"), "read address")
}

//go:build faults

package worker_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// replicates has a server of the test's own give base backups and stream.
var replicates = map[string]string{"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on", "fsync": "off"}

// central starts a server for a central database alone, which keeps its data in a folder.
func central(t *testing.T) *localpg.Server {
	t.Helper()
	return startPostgres(t, localpg.Config{Dir: filepath.Join(openTempDir(t), "first"), Settings: replicates})
}

// openTempDir is a folder that the account may enter that Postgres runs as.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "headgate-centre-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func onServer(name string, server *localpg.Server) *jobstest.Postgres {
	return &jobstest.Postgres{Name: name, URL: server.URL}
}

// tool runs a command of the server's own version.
func tool(t *testing.T, server *localpg.Server, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(server.BinDir(), name), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s: %s", name, stderr.String())
	return stdout.Bytes()
}

// nameOf is the name of an environment's central database.
func nameOf(t *testing.T, env *jobstest.Env) string {
	t.Helper()
	u, err := url.Parse(env.URL)
	require.NoError(t, err)
	return u.Path[1:]
}

// A base backup has the mark of its original. It leaves the tenants alone as soon as the
// original has renewed its token and a job has left that.
func TestFaultsABaseBackupOfTheCentreWaits(t *testing.T) {
	t.Parallel()
	server := central(t)
	env := jobstest.NewOn(t, onServer("central", server))
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	w := heir(env)
	works(t, env)
	age(t, env, w)
	works(t, env)
	second := startPostgres(t, localpg.Config{Dir: jobstest.BaseBackup(t, server)})
	copied := env.At(onServer("copy", second), nameOf(t, env))

	age(t, env, w) // the token of the hour of the backup, which both have
	age(t, env, w) // the first that the original has made since
	works(t, env)
	left := markOf(t, db)
	heir(copied)
	waits(t, copied)
	works(t, env)
	require.Equal(t, left, markOf(t, db))
}

// A standby that is promoted without its last minute goes on: what it lacks is a token
// that was not ten minutes old, so no tenant database bears it.
func TestFaultsAPromotedStandbyGoesOn(t *testing.T) {
	t.Parallel()
	server := central(t)
	ctx := context.Background()
	env := jobstest.NewOn(t, onServer("central", server))
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	w := heir(env)
	works(t, env)
	age(t, env, w)
	works(t, env)
	before := markOf(t, db)
	require.NotEmpty(t, before[1])

	standby := startPostgres(t, localpg.Config{Dir: jobstest.BaseBackup(t, server, "--write-recovery-conf"), Settings: replicates})
	conn, err := pgx.Connect(ctx, standby.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	is := func(sql string) func() bool {
		return func() (yes bool) {
			require.NoError(t, conn.QueryRow(ctx, sql).Scan(&yes))
			return yes
		}
	}
	require.Eventually(t, is(`SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')`), 30*time.Second, 10*time.Millisecond)
	_, err = conn.Exec(ctx, `ALTER SYSTEM SET primary_conninfo = ''`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `SELECT pg_reload_conf()`)
	require.NoError(t, err)
	require.Eventually(t, is(`SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)`), 30*time.Second, 10*time.Millisecond)

	// The last minute: a token, and work.
	_, err = env.Pool.Exec(ctx, `DELETE FROM headgate.centre_tokens WHERE hour = (SELECT max(hour) FROM headgate.centre_tokens)`)
	require.NoError(t, err)
	require.NoError(t, w.RefreshCentre(ctx))
	var lost string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT token FROM headgate.centre_tokens ORDER BY hour DESC LIMIT 1`).Scan(&lost))
	works(t, env)
	require.NoError(t, w.Stop(ctx))
	_, err = conn.Exec(ctx, `SELECT pg_promote()`)
	require.NoError(t, err)

	promoted := env.At(onServer("promoted", standby), nameOf(t, env))
	heir(promoted)
	works(t, promoted)
	require.Equal(t, before, markOf(t, db))
	var kept int
	require.NoError(t, promoted.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.centre_tokens WHERE token = $1`, lost).Scan(&kept))
	require.Zero(t, kept, "the standby lacks it")
}

// A dump that is restored on another cluster waits, and works when it has adopted the
// tenants; the first one then waits.
func TestFaultsARestoreOnANewClusterAdopts(t *testing.T) {
	t.Parallel()
	server := central(t)
	env := jobstest.NewOn(t, onServer("central", server))
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	heir(env)
	works(t, env)

	dump := filepath.Join(openTempDir(t), "dump")
	tool(t, server, "pg_dump", "-Fc", "-f", dump, "-d", env.URL)
	fresh := startPostgres(t, localpg.Config{Memory: true})
	conn, err := pgx.Connect(context.Background(), fresh.URL("postgres"))
	require.NoError(t, err)
	_, err = conn.Exec(context.Background(), `CREATE DATABASE restored TEMPLATE template0`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(context.Background()))
	tool(t, fresh, "pg_restore", "--exit-on-error", "-d", fresh.URL("restored"), dump)

	restored := env.At(onServer("restored", fresh), "restored")
	heir(restored)
	waiting := waits(t, restored)
	works(t, env)
	adopt(t, restored, catalog.AdoptParams{All: true})
	goesOn(t, restored, waiting)
	waits(t, env)
}

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

var answersAt = regexp.MustCompile(`answering about health" address=(\S+)`)

// asked is one answer of a process about its health.
func asked(c *commandLine, addr, what string) result {
	return c.run("healthcheck", addr, "--ask", what)
}

// Each thing that keeps a process from its work is told at /readyz, and not at /livez, and
// is gone from there when it is over.
func TestHealth(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`})
	env.Tenant("acme", "db")
	ring := filepath.Join(t.TempDir(), "keys")
	key, other := []byte(env.Key+"\n"), []byte(catalog.NewKey("other").Reveal()+"\n")
	require.NoError(t, os.WriteFile(ring, key, 0o600))
	c.set("HEADGATE_KEY", "")
	c.set("HEADGATE_KEY_FILE", ring)
	w := c.start("serve", "--reports", t.TempDir(), "--health", "0")
	w.err.await(t, "msg=ready")
	addr := answersAt.FindStringSubmatch(w.err.String())[1]
	require.True(t, strings.HasPrefix(addr, "127.0.0.1:"), addr)
	eventually := func(says string) {
		t.Helper()
		require.Eventually(t, func() bool {
			r := asked(c, addr, "readyz")
			if says == "" {
				return r.code == cli.ExitOK
			}
			return r.code == cli.ExitFailed && strings.Contains(r.out, says)
		}, time.Minute, 50*time.Millisecond, "%s: %v", says, asked(c, addr, "readyz"))
		require.Equal(t, cli.ExitOK, asked(c, addr, "livez").code)
		require.Equal(t, cli.ExitOK, asked(c, addr, "startupz").code)
	}
	eventually("")
	golden(t, "healthcheck", asked(c, addr, "readyz").out)
	central := env.Pool.Config().ConnConfig.Database
	for _, x := range []struct {
		name, says   string
		breaks, ends func()
	}{
		{"a ring that lacks the key", "fail keys: the key ring opens no address of a tenant's database",
			func() { // another program has stored the logins with its own ring
				elsewhere := filepath.Join(t.TempDir(), "keys")
				require.NoError(t, os.WriteFile(elsewhere, other, 0o600))
				c.with("HEADGATE_KEY_FILE", elsewhere).with("HEADGATE_JOB_URL", loginURL(db.Job)).with("HEADGATE_OWNER_URL", loginURL(db.Owner)).ok("database", "login", "db", "--key-lost")
			},
			func() { require.NoError(t, os.WriteFile(ring, append(other, key...), 0o600)) }},
		{"a newer schema", "fail central schema: ",
			func() {
				admin(t, central, `INSERT INTO headgate.migrations (version, name, serves) VALUES (9999, 'contract', 9999)`)
			},
			func() { admin(t, central, `DELETE FROM headgate.migrations WHERE version = 9999`) }},
		{"the central database is down", "fail central schema: the central database does not answer as it should",
			func() {
				admin(t, "postgres", `ALTER DATABASE "`+central+`" ALLOW_CONNECTIONS false`,
					`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+central+`'`)
			},
			func() { admin(t, "postgres", `ALTER DATABASE "`+central+`" ALLOW_CONNECTIONS true`) }},
		{"claims fail", "fail claims: claims of queue default fail since",
			func() {
				admin(t, central, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted-claim' USING ERRCODE = 'XX001'; END $$`,
					`CREATE TRIGGER refuse BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.state = 'running' AND OLD.state = 'available') EXECUTE FUNCTION refuse()`)
				c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", `{"sql": "INSERT INTO notes VALUES (1)"}`)
			},
			func() { admin(t, central, `DROP TRIGGER refuse ON river_job`) }},
	} {
		x.breaks()
		eventually(x.says)
		require.NotContains(t, asked(c, addr, "readyz").out, "planted")
		x.ends()
		eventually("")
	}
	require.Contains(t, w.err.String(), "planted-claim", "the log has the cause")

	// A worker that drains lets its jobs end.
	locked, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = locked.Rollback(t.Context()) }()
	_, err = locked.Exec(t.Context(), `LOCK TABLE notes`)
	require.NoError(t, err)
	c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", `{"sql": "INSERT INTO notes VALUES (1)"}`)
	(&waiter{t: t, pool: env.Pool}).until(`SELECT count(*) FROM river_job WHERE state = 'running'`)
	w.stop()
	eventually("fail draining: the worker ends what it has, and claims nothing")
	require.NoError(t, locked.Rollback(t.Context()))
	require.Equal(t, cli.ExitOK, w.wait())
	require.Regexp(t, `msg="not ready" check=draining error="[^"]+"\n`, w.err.String(), "what has no cause has no attribute of that name")
	require.Equal(t, cli.ExitUnreachable, asked(c, addr, "readyz").code)
}

// Whoever holds connections open, silent or in the middle of a request, keeps neither the
// kubelet nor Prometheus out. No connection outlives its answer.
func TestHealthBesideHeldConnections(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	w := c.start("worker", "--reports", t.TempDir(), "--health", "0")
	w.err.await(t, "msg=ready")
	addr := answersAt.FindStringSubmatch(w.err.String())[1]
	for i := range 200 { // 64 are open at once
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		if i%2 == 0 {
			_, err = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n")
			require.NoError(t, err)
		}
	}
	for what, says := range map[string]string{"livez": "ok", "startupz": "ok", "metrics": "headgate_jobs_slots", "": "/livez, /readyz, /startupz, /metrics"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/"+what, http.NoBody)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(req)
		require.NoError(t, err, what)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Contains(t, string(text), says)
		require.True(t, answer.Close, what)
	}
	require.Equal(t, cli.ExitOK, asked(c, addr, "livez").code)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	c.fails(cli.ExitFailed, []string{"healthcheck", other.Listener.Addr().String()}, "it does not know /readyz: give the address of a process's --health")
}

// Wrong addresses are refused before anything is opened; while the process starts it says so.
func TestHealthAddress(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	for _, text := range []string{"x", "127.0.0.1", "1:2:3", "127.0.0.1:70000", "-1"} {
		c.fails(cli.ExitUsage, []string{"worker", "--health=" + text}, fmt.Sprintf("--health: %q", text))
	}
	c.fails(cli.ExitUsage, []string{"healthcheck", "127.0.0.1:1", "--ask", "metrics"}, "is not one of readyz, livez, startupz")
	c.fails(cli.ExitUnreachable, []string{"healthcheck", "127.0.0.1:1"}, "nobody answers at http://127.0.0.1:1/readyz")
}

//go:build faults && linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// prometheusServer is one of its own, with our rules.
type prometheusServer struct {
	t       *testing.T
	url     string
	targets string // the file that says whom it asks
}

// sooner are the texts of the rules that a test cannot wait for, and what stands there
// instead. Nothing else is changed.
var sooner = []struct{ old, new string }{
	{"headgate_worker_heartbeat_age_seconds > 30", "headgate_worker_heartbeat_age_seconds > 15"},
	{"headgate_loop_age_seconds > 120", "headgate_loop_age_seconds > 15"},
	{"headgate_queue_oldest_age_seconds) > 600", "headgate_queue_oldest_age_seconds) > 6"},
	{"headgate_ends_waiting > 100", "headgate_ends_waiting > 0"},
	{"headgate_central_figures_age_seconds) > 300", "headgate_central_figures_age_seconds) > 25"},
	{"[2m]", "[10s]"},
}

func startPrometheus(t *testing.T) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	rules := string(deployed(t, "prometheus", "headgate.rules.yml"))
	for _, s := range sooner {
		require.Contains(t, rules, s.old)
		rules = strings.ReplaceAll(rules, s.old, s.new)
	}
	rules = regexp.MustCompile(`for: \d+m`).ReplaceAllString(rules, "for: 1s")
	p := &prometheusServer{t: t, targets: filepath.Join(dir, "targets.json")}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("rules.yml", rules)
	write("targets.json", "[]")
	write("prometheus.yml", `
global: {scrape_interval: 1s, evaluation_interval: 1s, scrape_timeout: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: headgate
    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
`)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	p.url = "http://" + addr
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=error")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool { _, err := p.get("/-/ready", nil); return err == nil }, time.Minute, 50*time.Millisecond)
	return p
}

func (p *prometheusServer) get(path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return text, err
}

// asks replaces whom it asks.
func (p *prometheusServer) asks(addresses ...string) {
	p.t.Helper()
	text, err := json.Marshal([]map[string]any{{"targets": addresses}})
	require.NoError(p.t, err)
	fresh := p.targets + ".new"
	require.NoError(p.t, os.WriteFile(fresh, text, 0o600))
	require.NoError(p.t, os.Rename(fresh, p.targets))
}

// firing are the alerts that fire.
func (p *prometheusServer) firing() (names []string) {
	p.t.Helper()
	text, err := p.get("/api/v1/alerts", nil)
	require.NoError(p.t, err)
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	require.NoError(p.t, json.Unmarshal(text, &answer))
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	return names
}

// rows are how many series a query has.
func (p *prometheusServer) rows(query string) int {
	p.t.Helper()
	text, err := p.get("/api/v1/query", url.Values{"query": {query}})
	require.NoError(p.t, err, query)
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	require.NoError(p.t, json.Unmarshal(text, &answer))
	return len(answer.Data.Result)
}

// fires does a fault and waits for the alert, which did not fire before.
func (p *prometheusServer) fires(alert string, fault func()) {
	p.t.Helper()
	require.NotContains(p.t, p.firing(), alert, "before the fault")
	fault()
	require.Eventually(p.t, func() bool { return slices.Contains(p.firing(), alert) }, 2*time.Minute, 200*time.Millisecond, "%s does not fire", alert)
	p.t.Log(alert, "fires")
	p.fired(alert)
}

var firedAlerts sync.Map

func (p *prometheusServer) fired(alert string) { firedAlerts.Store(alert, true) }

// ends waits until an alert fires no more.
func (p *prometheusServer) ends(alert string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return !slices.Contains(p.firing(), alert) }, 2*time.Minute, 200*time.Millisecond, "%s does not end", alert)
}

// Stuck is a job whose handler does not return when its context ends.
type Stuck struct{}

func (Stuck) Kind() string { return "stuck" }

// Unknown is a job of a kind that no worker has.
type Unknown struct{}

func (Unknown) Kind() string { return "nobody.has.it" }

// Each alert fires by its fault, and did not fire before; the rules are the deployed ones,
// with shorter times. All queries of the dashboard are answered meanwhile, and what the
// processes answer is what promtool takes.
func TestFaultsAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "headgate.rules.yml"}, {"test", "rules", "headgate.rules.test.yml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = filepath.Join("..", "..", "deploy", "prometheus")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	c, env := setup(t)
	central := env.Pool.Config().ConnConfig.Database
	ctx := context.Background()
	do := func(sql string, args ...any) {
		t.Helper()
		_, err := env.Pool.Exec(ctx, sql, args...)
		require.NoError(t, err, sql)
	}
	const notes = `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`
	db := env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: notes})
	env.Tenant("acme", "db")
	env.Database("open", jobstest.DatabaseOpts{Schema: notes})
	env.Tenant("free", "open")
	note := func(tenant string, more ...string) {
		t.Helper()
		c.ok(append([]string{"job", "enqueue", "headgate.sql", "--tenant", tenant, "--args", `{"sql": "INSERT INTO notes VALUES (1)"}`}, more...)...)
	}

	p := startPrometheus(t)
	p.fires("HeadgateAbsent", func() {})

	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--cron", "0 3 * * *", "--zone", "UTC", "--kind", "headgate.sql", "--args", `{"sql": "INSERT INTO notes VALUES (2)"}`)
	only := c.start("worker", "--health", "0", "--watch-schedule", "nightly", "--watch-schedule", "nihgtly")
	only.err.await(t, "msg=ready")
	onlyAt := answersAt.FindStringSubmatch(only.err.String())[1]
	p.asks(onlyAt)
	p.ends("HeadgateAbsent")
	p.fires("HeadgateScheduleUnknown", func() {})
	p.fires("HeadgateScheduleUnanswered", func() {
		do(`UPDATE headgate.schedules SET next_run_at = now() - interval '2 minutes', next_nominal_at = now() - interval '2 minutes'`)
	})
	p.fires("HeadgateScheduleWithoutSuccess", func() { do(`UPDATE headgate.schedules SET created_at = now() - interval '3 days'`) })

	w := c.start("serve", "--reports", t.TempDir(), "--health", "0", "--watch-schedule", "nightly")
	w.err.await(t, "msg=ready")
	serveAt := answersAt.FindStringSubmatch(w.err.String())[1]
	p.asks(onlyAt, serveAt)
	p.ends("HeadgateScheduleUnanswered")
	p.ends("HeadgateScheduleWithoutSuccess")
	p.fires("HeadgateScheduleStopped", func() {
		do(`UPDATE headgate.schedules SET args = '{"sql": 7}', next_run_at = now(), next_nominal_at = now()`)
	})
	p.fires("HeadgateJobsDiscarded", func() {
		for _, attempts := range []string{"1", "2"} {
			c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme", "--max-attempts", attempts, "--args", `{"sql": "SELECT 'planted-text'::int"}`)
		}
	})
	p.fires("HeadgateKindUnserved", func() {
		_, err := env.Client.Enqueue(ctx, "acme", Unknown{}, nil)
		require.NoError(t, err)
	})
	p.fires("HeadgateJobsQuarantined", func() {
		do(`INSERT INTO headgate.suspects (job_id, job_uid, kind, deaths, alone, quarantined_at) SELECT id, metadata ->> 'job_uid', kind, 3, 3, now() FROM river_job LIMIT 1`)
	})
	p.fires("HeadgateIsolation", func() { note("free") })
	p.fires("HeadgateServerDown", func() {
		env.Database("far", jobstest.DatabaseOpts{Kind: "dedicated", Schema: notes, On: &jobstest.Postgres{Name: "far", URL: func(db string) string { return jobstest.ServerURL(t, db) }, Via: unusedPort(t)}})
		env.Tenant("far", "far")
		for range 4 {
			note("far")
		}
	})

	refuses := env.Database("refuses", jobstest.DatabaseOpts{Kind: "dedicated", Schema: notes})
	env.Tenant("refused", "refuses")
	p.fires("HeadgateDatabaseRefuses", func() {
		admin(t, "postgres", `ALTER ROLE `+pgx.Identifier{refuses.Job.User}.Sanitize()+` NOLOGIN`)
		note("refused")
	})
	admin(t, "postgres", `ALTER ROLE `+pgx.Identifier{refuses.Job.User}.Sanitize()+` LOGIN`)
	require.Equal(t, 1, p.rows(`ALERTS{alertname="HeadgateDatabaseRefuses", headgate_class="auth_failed", headgate_server="`+jobstest.Server+`"}`), "it says who, and why")

	// Jobs that wait for a lock hold their connections.
	locked, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = locked.Rollback(ctx) }()
	_, err = locked.Exec(ctx, `LOCK TABLE notes`)
	require.NoError(t, err)
	p.fires("HeadgateServerFull", func() {
		c.ok("server", "set", jobstest.Server, "--budget", "3")
		for range 6 {
			note("acme")
		}
	})
	answered(p) // while there is something of everything
	if !slices.Contains(p.firing(), "HeadgateJobsWait") {
		require.Eventually(t, func() bool { return slices.Contains(p.firing(), "HeadgateJobsWait") }, 2*time.Minute, 200*time.Millisecond)
	}
	p.fired("HeadgateJobsWait")
	p.fires("HeadgateEndsWait", func() {
		note("acme")
		var rows pgx.Tx
		require.Eventually(t, func() bool {
			tx, err := env.Pool.Begin(ctx)
			require.NoError(t, err)
			tag, err := tx.Exec(ctx, `SELECT FROM river_job WHERE state = 'running' FOR UPDATE`)
			require.NoError(t, err)
			if tag.RowsAffected() == 0 { // they gave up waiting, and come again
				require.NoError(t, tx.Rollback(ctx))
				return false
			}
			rows = tx
			return true
		}, 2*time.Minute, 50*time.Millisecond)
		t.Cleanup(func() { _ = rows.Rollback(ctx) })
		require.NoError(t, locked.Rollback(ctx))
		require.Eventually(t, func() bool { return slices.Contains(p.firing(), "HeadgateEndsWait") }, 2*time.Minute, 200*time.Millisecond)
		require.NoError(t, rows.Rollback(ctx))
	})

	p.fires("HeadgateWorkerSilent", func() {
		do(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, beat_at) VALUES (gen_random_uuid(), 'gone', 'here', 1, '{}', '{}', now() - interval '1 hour')`)
		tx, err := env.Pool.Begin(ctx) // nobody can declare it dead meanwhile
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(ctx) })
		_, err = tx.Exec(ctx, `SELECT FROM headgate.workers WHERE worker = 'gone' FOR UPDATE`)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return slices.Contains(p.firing(), "HeadgateWorkerSilent") }, 2*time.Minute, 200*time.Millisecond)
		require.NoError(t, tx.Rollback(ctx))
	})

	stop := make(chan struct{})
	own, ownAt := ownWorker(t, env, stop)
	p.asks(onlyAt, serveAt, ownAt)
	p.fires("HeadgateHandlerStuck", func() {
		_, err := env.Client.Enqueue(ctx, "acme", Stuck{}, &jobs.EnqueueOpts{Timeout: time.Second, MaxAttempts: 1})
		require.NoError(t, err)
	})
	close(stop)
	require.NoError(t, own.Stop(ctx)) // its process goes on

	p.fires("HeadgateLoopStands", func() {
		paused := map[int]bool{}
		defer func() {
			for pid := range paused {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}()
		require.Eventually(t, func() bool {
			rows, _ := env.Pool.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%(SELECT next_run_at FROM headgate.schedules%' AND pid <> pg_backend_pid()`)
			pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
			require.NoError(t, err)
			for _, pid := range pids {
				paused[pid] = true
				require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
			}
			return slices.Contains(p.firing(), "HeadgateLoopStands")
		}, 2*time.Minute, 200*time.Millisecond)
	})
	p.fires("HeadgateClaimsFail", func() {
		admin(t, central, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted-claim' USING ERRCODE = 'XX001'; END $$`,
			`CREATE TRIGGER refuse BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.state = 'running' AND OLD.state = 'available') EXECUTE FUNCTION refuse()`)
		note("acme")
	})
	for _, addr := range []string{onlyAt, serveAt} {
		check := exec.Command("promtool", "check", "metrics")
		text := scrape(t, addr)
		require.NotContains(t, text, "planted")
		check.Stdin = strings.NewReader(text)
		out, err := check.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	p.fires("HeadgateHeartbeatFails", func() {
		admin(t, "postgres", `ALTER DATABASE "`+central+`" ALLOW_CONNECTIONS false`, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+central+`'`)
	})
	p.fires("HeadgateFiguresOld", func() {})
	admin(t, "postgres", `ALTER DATABASE "`+central+`" ALLOW_CONNECTIONS true`)
	admin(t, central, `DROP TRIGGER refuse ON river_job`)
	p.ends("HeadgateHeartbeatFails")
	p.ends("HeadgateFiguresOld")
	require.Eventually(t, func() bool { return p.rows(`max(headgate_workers{headgate_state="live"}) > 0`) == 1 }, 2*time.Minute, 200*time.Millisecond) // their heartbeats have come again
	p.ends("HeadgateNoWorker")

	// The program of the user's own outlives the workers, and says so.
	p.fires("HeadgateNoWorker", func() {
		require.Equal(t, cli.ExitOK, only.end())
		require.Equal(t, cli.ExitOK, w.end())
	})

	for _, r := range readRules(t).Groups[0].Rules {
		_, fired := firedAlerts.Load(r.Alert)
		require.True(t, fired, "no fault makes %s fire", r.Alert)
	}
}

// unusedPort is a port at which nobody answers.
func unusedPort(t *testing.T) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	return port
}

// answered holds that each query of the dashboard is one that Prometheus takes, and that
// it has an answer, but for what has not happened.
func answered(p *prometheusServer) {
	p.t.Helper()
	quiet := []string{"Ledger hits"}
	for title, queries := range dashboardQueries(p.t) {
		for _, q := range queries {
			q = strings.ReplaceAll(q, "$__rate_interval", "5m")
			p.rows(q) // Prometheus takes it
			if !slices.Contains(quiet, title) {
				require.Eventually(p.t, func() bool { return p.rows(q) > 0 }, time.Minute, 200*time.Millisecond, "%s: %s", title, q)
			}
		}
	}
}

// ownWorker is a program of the user's own, in this process: its metrics, and the figures of
// the central database, are asked for at the address that is returned. Its handler ignores
// its context until stop.
func ownWorker(t *testing.T, env *jobstest.Env, stop <-chan struct{}) (own *worker.Worker, addr string) {
	t.Helper()
	m, err := newMetrics(t.Context(), nil)
	require.NoError(t, err)
	server := httptest.NewServer(m.handler())
	t.Cleanup(server.Close)
	cfg := env.Config()
	cfg.Meter, cfg.StuckAfter, cfg.Tenants.CancelWait = m.provider, 200*time.Millisecond, 100*time.Millisecond
	whole := &figures{look: env.Explain.Figures, log: slog.Default(), born: time.Now()}
	t.Cleanup(whole.end)
	require.NoError(t, whole.observe(m.provider))
	own = env.Work(&cfg, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[Stuck]) error { <-stop; return nil })
	})
	return own, strings.TrimPrefix(server.URL, "http://")
}

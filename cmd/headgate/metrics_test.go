package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// scrape asks as Prometheus does.
func scrape(t *testing.T, addr string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(text)
}

// unseen are the metrics that a process has only after something has happened which this
// test does not do, and what that is.
var unseen = map[string]string{
	"headgate_tenant_attempts": "--top-tenants", "headgate_tenant_failures": "--top-tenants",
	"headgate_retries": "a job that is tried again", "headgate_ledger_hits": "a lost reply to COMMIT", "headgate_claim_limited": "a limit",
	"headgate_schedule_answers": "a schedule", "headgate_schedule_lateness": "a schedule", "headgate_schedule_success_age": "a watched schedule",
	"headgate_queue_waiting": "jobs that wait", "headgate_queue_oldest_age": "jobs that wait",
}

// metricNames are those that package telemetry names, as Prometheus writes them, without
// unit and suffix.
func metricNames(t *testing.T) (names []string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "..", "jobs", "telemetry", "names.go"))
	require.NoError(t, err)
	metrics, _, found := strings.Cut(string(source), "// The attributes.")
	require.True(t, found)
	for _, m := range regexp.MustCompile(`= +"(headgate\.[a-z.]+)"`).FindAllStringSubmatch(metrics, -1) {
		names = append(names, strings.ReplaceAll(m[1], ".", "_"))
	}
	require.Greater(t, len(names), 30)
	return names
}

// What a process does is counted at /metrics, under names that promtool's linter takes, and
// without a tenant or a text of an error.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`})
	env.Tenant("acme-of-the-planted-name", "db")
	w := c.start("serve", "--reports", t.TempDir(), "--health", "0", "--watch-schedule", "nihgtly")
	w.err.await(t, "msg=ready")
	require.Contains(t, w.err.String(), `msg="no schedule has the name that --watch-schedule gives" schedule=nihgtly`)
	addr := answersAt.FindStringSubmatch(w.err.String())[1]
	for _, sql := range []string{`INSERT INTO notes VALUES (1)`, `SELECT 'planted-text'::int`} {
		uid := enqueued(t, c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme-of-the-planted-name", "--max-attempts", "1", "--args", `{"sql": "`+sql+`"}`, "-o", "json"))
		env.WaitFor(uid, func(o jobs.Outcome) bool { return true })
	}
	text := scrape(t, addr)
	for _, line := range []string{
		`headgate_attempts_total{headgate_class="",headgate_kind="headgate.sql",headgate_server="` + jobstest.Server + `",headgate_state="succeeded"} 1`,
		`headgate_attempts_total{headgate_class="job_error",headgate_kind="headgate.sql",headgate_server="` + jobstest.Server + `",headgate_state="discarded"} 1`,
		`headgate_claim_jobs_total{headgate_queue="default"} 2`,
		`headgate_pickup_delay_seconds_count{headgate_queue="default"} 2`,
		`headgate_schedule_watched{headgate_schedule="nihgtly"} 0`,
		`headgate_breakers_open{headgate_class="unreachable",headgate_server="` + jobstest.Server + `"} 0`,
	} {
		require.Contains(t, text, line)
	}
	for _, name := range slices.Concat(metricNames(t), []string{"go_goroutines", "process_cpu_seconds_total"}) {
		if unseen[name] == "" {
			require.Regexp(t, "(?m)^"+name+"(_total|_seconds|_seconds_bucket)?[{ ]", text)
		}
	}
	require.NotContains(t, text, "planted")
	problems, err := promlint.New(bytes.NewReader([]byte(text))).Lint()
	require.NoError(t, err)
	problems = slices.DeleteFunc(problems, func(p promlint.Problem) bool { return !strings.HasPrefix(p.Metric, "headgate_") })
	require.Empty(t, problems)
	require.Equal(t, cli.ExitOK, w.end())
}

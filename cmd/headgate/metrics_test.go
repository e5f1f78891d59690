package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
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

// What a process does is counted at /metrics, under names that promtool's linter takes, and
// without a tenant or a text of an error.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`})
	env.Tenant("acme-of-the-planted-name", "db")
	w := c.start("serve", "--reports", t.TempDir(), "--health", "0")
	w.err.await(t, "msg=ready")
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
	} {
		require.Contains(t, text, line)
	}
	for _, name := range []string{"headgate_worker_heartbeat_age_seconds", "headgate_loop_age_seconds", "headgate_attempt_duration_seconds_bucket", "headgate_claim_duration_seconds_bucket", "go_goroutines", "process_cpu_seconds_total"} {
		require.Contains(t, text, name)
	}
	require.NotContains(t, text, "planted")
	problems, err := promlint.New(bytes.NewReader([]byte(text))).Lint()
	require.NoError(t, err)
	problems = slices.DeleteFunc(problems, func(p promlint.Problem) bool { return !strings.HasPrefix(p.Metric, "headgate_") })
	require.Empty(t, problems)
	require.Equal(t, cli.ExitOK, w.end())
}

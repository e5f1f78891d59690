//go:build faults && linux

package main

import (
	"context"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

var figuresAge = regexp.MustCompile(`(?m)^headgate_central_figures_age_seconds (\S+)$`)

// ageOf is the age of the figures in what /metrics has answered, in seconds.
func ageOf(t *testing.T, text string) float64 {
	t.Helper()
	found := figuresAge.FindStringSubmatch(text)
	require.NotNil(t, found, text)
	age, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return age
}

// A session of the central database that freezes while it looks at figures keeps nobody
// from metrics: those of the process are new, those of the whole stand, and their age
// grows. The process ends in order.
func TestFaultsFrozenFigures(t *testing.T) {
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`})
	env.Tenant("acme", "db")
	w := c.start("serve", "--reports", t.TempDir(), "--health", "0")
	w.err.await(t, "msg=ready")
	addr := answersAt.FindStringSubmatch(w.err.String())[1]
	c.ok("job", "enqueue", "headgate.sql", "--queue", "elsewhere", "--tenant", "acme", "--args", `{"sql": "INSERT INTO notes VALUES (1)"}`)
	const waiting = `headgate_queue_waiting{headgate_queue="elsewhere"} 1`
	require.Eventually(t, func() bool { return regexp.MustCompile(regexp.QuoteMeta(waiting)).MatchString(scrape(t, addr)) }, 2*time.Minute, 200*time.Millisecond)
	require.Less(t, ageOf(t, scrape(t, addr)), 30.0)

	// The look takes long enough to be met.
	admin(t, env.Pool.Config().ConnConfig.Database, `
CREATE OR REPLACE FUNCTION headgate.waiting_queues() RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(1); RETURN QUERY SELECT 'elsewhere'::text; END $$`)
	frozen := 0
	defer func() {
		if frozen != 0 {
			_ = syscall.Kill(frozen, syscall.SIGCONT)
		}
	}()
	require.Eventually(t, func() bool {
		scraped := make(chan string, 1)
		go func() { scraped <- scrape(t, addr) }()
		for frozen == 0 {
			select {
			case <-scraped: // that look is over
				return false
			default:
			}
			rows, _ := env.Pool.Query(context.Background(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%waiting_queues%' AND pid <> pg_backend_pid()`)
			pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
			require.NoError(t, err)
			if len(pids) == 1 {
				frozen = pids[0]
				require.NoError(t, syscall.Kill(frozen, syscall.SIGSTOP))
			}
		}
		<-scraped
		return frozen != 0
	}, 2*time.Minute, 10*time.Millisecond)

	before := ageOf(t, scrape(t, addr))
	uid := enqueued(t, c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", `{"sql": "INSERT INTO notes VALUES (1)"}`, "-o", "json"))
	env.WaitFor(uid, func(jobs.Outcome) bool { return true })
	require.Eventually(t, func() bool {
		text := scrape(t, addr) // 200
		require.Contains(t, text, waiting, "the figures of before stand")
		require.Contains(t, text, `headgate_central_figures_missing{headgate_figure="queues"} 0`)
		return ageOf(t, text) > before+20 && regexp.MustCompile(`(?m)^headgate_attempts_total\{.*headgate_state="succeeded"\} 1$`).MatchString(text)
	}, 2*time.Minute, 200*time.Millisecond)
	require.Equal(t, cli.ExitOK, asked(c, addr, "livez").code)
	require.Contains(t, w.err.String(), "the figures of the central database are not new")
	require.Equal(t, cli.ExitOK, w.end())
	require.Contains(t, w.err.String(), "msg=stopped")
	require.NoError(t, syscall.Kill(frozen, syscall.SIGCONT), "it was frozen to the end")
}

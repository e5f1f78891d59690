package retention_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

func day(ago int) string { return time.Now().UTC().AddDate(0, 0, -ago).Format("job_logs_2006_01_02") }

const logRow = `INSERT INTO headgate.job_logs (id, job_uid, attempt, ended_at, lines) VALUES (gen_random_uuid(), gen_random_uuid(), 1, $1, '{}')`

// The coming days of what jobs log are made before they begin, and the old ones are dropped
// whole. What lies in no day of its own is moved when its day is made, and deleted when it
// is old.
func TestJanitorKeepsTheDays(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	_ = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})) // its template may be of yesterday
	roomtest.Do(t, env, `DROP TABLE headgate.`+day(-4))
	roomtest.Do(t, env, logRow, time.Now().AddDate(0, 0, 4))
	for _, ago := range []int{1, 13, 14, 15, 16} {
		roomtest.Do(t, env, `SELECT headgate.add_job_logs_day($1)`, time.Now().AddDate(0, 0, -ago))
		roomtest.Do(t, env, logRow, time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -ago))
	}
	roomtest.Do(t, env, logRow, time.Now().AddDate(-1, 0, 0))
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.job_logs_default`))

	swept := roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, []string{day(-4)}, swept.MadeDays)
	require.Equal(t, []string{day(16), day(15)}, swept.DroppedDays)
	require.Equal(t, 1, swept.StrayLogs)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.job_logs_default`))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.`+day(-4)), "it has moved")
	require.Equal(t, 4, roomtest.Count(t, env, `SELECT count(*) FROM headgate.job_logs`))
	require.Zero(t, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})), "a second pass has nothing to do")

	swept = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{KeepJobLogs: 48 * time.Hour}))
	require.Equal(t, []string{day(14), day(13)}, swept.DroppedDays)
}

// Lines are kept no longer than the attempts that they belong to.
func TestLinesAreNotKeptLongerThanAttempts(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	config := func(history, logs time.Duration) error {
		cfg := retention.Config{Pool: env.Pool, Selectors: env.Schedules.Templates, HistoryRetention: history, KeepJobLogs: logs}
		_, err := retention.New(cfg)
		return err
	}
	require.NoError(t, config(0, 0))
	require.NoError(t, config(24*time.Hour, 0), "14 days are more than the history is kept: as long as it is")
	require.ErrorContains(t, config(0, time.Hour), "give 24h or more")
	require.ErrorContains(t, config(72*time.Hour, 96*time.Hour), "give at most HistoryRetention (72h0m0s)")
	_ = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})) // its template may be of yesterday
	roomtest.Do(t, env, `SELECT headgate.add_job_logs_day($1)`, time.Now().AddDate(0, 0, -3))
	require.Equal(t, []string{day(3)}, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{HistoryRetention: 24 * time.Hour})).DroppedDays)
}

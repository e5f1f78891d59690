package migrations_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The history that was there before it was divided is all there after it, each
// outcome in its month, and an outcome that is written twice is there once.
func TestOutcomesByMonth(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := empty(t)()
	run := func(sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	file := func(name string) string {
		text, err := os.ReadFile("central/" + name)
		require.NoError(t, err)
		return string(text)
	}
	run(`CREATE SCHEMA headgate`)
	run(file("0002_outcomes.sql"))
	run(`SET timezone = 'Asia/Kolkata'`) // months are those of UTC whatever the session's zone
	run(`
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, message, started_at, ended_at)
SELECT gen_random_uuid(), gen_random_uuid(), n, 'note', 1, 'failed', 'm' || n, at, at
FROM generate_series(-40, 2) n, LATERAL (SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month') AT TIME ZONE 'UTC' AS at) m`)
	run(file("0006_outcomes_by_month.sql"))

	n := func(sql string) (n int) {
		t.Helper()
		require.NoError(t, conn.QueryRow(ctx, sql).Scan(&n))
		return n
	}
	require.Equal(t, 43, n(`SELECT count(*) FROM headgate.outcomes`))
	require.Equal(t, 16, n(`SELECT count(*) FROM headgate.outcomes_default`), "what is older than two years stays together")
	require.Equal(t, 27, n(`SELECT count(*) FROM pg_inherits WHERE inhparent = 'headgate.outcomes'::regclass`)-1)
	require.Equal(t, 1, n(`SELECT count(*) FROM headgate.outcomes_`+time.Now().UTC().Format("2006_01")))
	run(`INSERT INTO headgate.outcomes SELECT * FROM headgate.outcomes ON CONFLICT DO NOTHING`)
	require.Equal(t, 43, n(`SELECT count(*) FROM headgate.outcomes`))
	require.Zero(t, n(`SELECT count(*) FROM pg_class WHERE relname LIKE '%undivided%'`))
}

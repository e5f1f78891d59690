package queue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// What is being cancelled is found by its own index, however much waits and however
// much is done.
func TestWhatIsBeingCancelledIsFoundByItsIndex(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `
INSERT INTO river_job (kind, args, state, queue, max_attempts, finalized_at, metadata)
SELECT 'act', '{}', CASE WHEN n % 2 = 0 THEN 'completed' ELSE 'available' END::river_job_state, 'default', 25, CASE WHEN n % 2 = 0 THEN now() END,
       CASE WHEN n % 10000 = 1 THEN '{"cancel_attempted_at": "2026-01-01T00:00:00Z"}' ELSE '{}' END::jsonb
FROM generate_series(1, 30000) n;
ANALYZE river_job`)
	require.NoError(t, err)
	for name, sql := range map[string]string{
		"janitor": strings.ReplaceAll(strings.ReplaceAll(queue.SelectCancelling, "$1", "100"), "$2", "0"),
		"list":    strings.NewReplacer("$1", "1000000", "$2", "'cancelling'", "$3", "''", "$4", "''", "$5", "50", "$6", "NULL").Replace(queue.ListJobs),
	} {
		rows, err := env.Pool.Query(ctx, "EXPLAIN "+sql)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(lines), "river_job_headgate_cancelling", name)
	}
}

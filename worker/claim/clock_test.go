package claim_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// What looks after misplaced jobs costs the same however many jobs wait.
func TestLookingForMisplacedJobsIsCheap(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `
INSERT INTO river_job (kind, args, max_attempts, state, scheduled_at, queue, priority, finalized_at)
SELECT 'x', '{}', 25, s::river_job_state, now() + CASE s WHEN 'available' THEN '-1 hour'::interval ELSE '1 hour' END,
       'default', 1 + n % 4, CASE s WHEN 'completed' THEN now() END
FROM generate_series(1, 10000) n, unnest(ARRAY['available', 'scheduled', 'retryable', 'completed']) s`)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `ANALYZE river_job`)
	require.NoError(t, err)
	rows, err := env.Pool.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) "+claim.DueSQL, []string{"default"}, time.Now(), 10*time.Second, true)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	buffers := 0
	for _, line := range plan {
		require.NotContains(t, line, "Seq Scan on river_job")
		if n := 0; buffers == 0 {
			if _, err := fmt.Sscanf(line, "  Buffers: shared hit=%d", &n); err == nil {
				buffers = n
			}
		}
	}
	t.Logf("%d pages", buffers)
	require.Greater(t, buffers, 0, plan)
	require.Less(t, buffers, 150, plan)
}

package orchestrator_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator"
)

// A job is found by its UID in whatever state it is, by indexes, however many have
// ended.
func TestAUIDIsFoundByIndexes(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	do(t, env, `
WITH done AS (
    INSERT INTO river_job (state, queue, kind, args, metadata, max_attempts, attempt, finalized_at)
    SELECT 'completed', 'default', 'note', '{}', jsonb_build_object('job_uid', gen_random_uuid()), 1, 1, now() FROM generate_series(1, 20000)
    RETURNING id, kind, metadata
)
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, 'succeeded', now(), now() FROM done`)
	uids := []string{}
	for _, state := range []string{"available", "running", "retryable", "discarded", "cancelled", "completed"} {
		job := enqueue(t, env)
		putInto(t, env, job.ID, state)
		require.Equal(t, job.ID, jobOf(t, env, job.UID).ID, state)
		uids = append(uids, job.UID)
	}
	do(t, env, `ANALYZE river_job`)
	do(t, env, `ANALYZE headgate.outcomes`)
	for sql, arg := range map[string]any{orchestrator.SelectIDOfUIDSQL: uids[5], orchestrator.SelectUnfinishedSQL: uids} {
		rows, err := env.Pool.Query(ctx, `EXPLAIN (COSTS OFF) `+sql, arg)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		text := strings.Join(plan, "\n")
		require.Contains(t, text, "river_job_headgate_uid")
		require.NotContains(t, text, "Seq Scan on river_job", text)
		require.NotContains(t, text, "Seq Scan on "+month(time.Now()), text)
	}
	rows, err := env.Pool.Query(ctx, orchestrator.SelectUnfinishedSQL, uids)
	require.NoError(t, err)
	unfinished, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.ElementsMatch(t, uids[:3], unfinished)
}

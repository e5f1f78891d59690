package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/stretchr/testify/require"
)

// A finished row that somebody has locked stays until the next time, and keeps no
// other from being deleted. River's own statement, the control, waits for that row.
func TestALockedFinishedRowDelaysItsOwnDeletionOnly(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	ctx := t.Context()
	_, err := g.env.Pool.Exec(ctx, `
INSERT INTO river_job (id, kind, args, max_attempts, state, finalized_at, queue)
SELECT n, 'x', '{}', 9, (ARRAY['completed', 'cancelled', 'discarded'])[n % 3 + 1]::river_job_state, now() - interval '2 days',
       CASE n WHEN 8 THEN 'kept' ELSE 'default' END FROM generate_series(1, 9) n;
INSERT INTO river_job (id, kind, args, max_attempts, state, finalized_at)
VALUES (10, 'x', '{}', 9, 'completed', now()), (11, 'x', '{}', 9, 'completed', 'infinity'), (12, 'x', '{}', 9, 'completed', '-infinity'), (13, 'x', '{}', 9, 'available', NULL)`)
	require.NoError(t, err)
	tx, err := g.env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(ctx, `SELECT FROM river_job WHERE id = 3 FOR UPDATE`)
	require.NoError(t, err)

	before := time.Now().Add(-24 * time.Hour)
	params := &riverdriver.JobDeleteBeforeParams{
		CancelledDoDelete: true, CancelledFinalizedAtHorizon: before, CompletedDoDelete: true, CompletedFinalizedAtHorizon: before,
		DiscardedDoDelete: true, DiscardedFinalizedAtHorizon: before, QueuesExcluded: []string{"kept"}, Max: 5,
	}
	waits, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = g.driver.GetExecutor().JobDeleteBefore(waits, params)
	require.Error(t, err, "the control: the driver's own statement waits")
	require.Eventually(t, func() bool { // what it has locked until then, the server frees when it hears that it was given up
		var waiting bool
		err := g.env.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database()))`).Scan(&waiting)
		return err == nil && !waiting
	}, time.Minute, 5*time.Millisecond)
	deleter, ok := g.driver.PluginPilot().(riverpilot.PilotJobDeleter)
	require.True(t, ok, "River's cleaner asks for this interface")
	for _, want := range []int{5, 3, 0} {
		deleted, err := deleter.JobDeleteBefore(ctx, nil, params)
		require.NoError(t, err)
		require.Equal(t, want, deleted)
	}
	require.NoError(t, tx.Rollback(ctx))
	params.CancelledDoDelete, params.CompletedDoDelete = false, false
	deleted, err := deleter.JobDeleteBefore(ctx, nil, params)
	require.NoError(t, err)
	require.Zero(t, deleted, "its state is kept")
	params.CancelledDoDelete, params.CompletedDoDelete = true, true
	deleted, err = deleter.JobDeleteBefore(ctx, nil, params)
	require.NoError(t, err)
	require.Equal(t, 1, deleted)
	rows, err := g.env.Pool.Query(ctx, `SELECT id FROM river_job ORDER BY id`)
	require.NoError(t, err)
	left, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, []int{8, 10, 11, 13}, left)
}

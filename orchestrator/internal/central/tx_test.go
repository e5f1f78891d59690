package central_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}

// Who leaves a transaction idle for too long is told so, and that nothing was changed,
// whether the server's own word arrives or the connection is found broken.
func TestATransactionThatIdlesIsTold(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	limits := central.Limits{Idle: 50 * time.Millisecond, Lock: time.Second}
	err := central.WriteWithin(ctx, env.Pool, limits, func(tx pgx.Tx) error {
		var pid int
		if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		require.Eventually(t, func() bool {
			var there bool
			err := env.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid).Scan(&there)
			return err == nil && !there
		}, time.Minute, time.Millisecond)
		_, err := tx.Exec(ctx, `SELECT 1`)
		return err
	})
	require.ErrorContains(t, err, "in the middle of a transaction, and nothing was changed")
	require.ErrorContains(t, err, "50ms")
	require.ErrorContains(t, err, "try again")
}

package queue_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// The attempts of a job are found by the index of each month: a UID tells no time.
func TestAttemptsPlan(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for n := -12; n < 0; n++ {
		roomtest.Do(t, env, `SELECT headgate.add_outcomes_month($1)`, roomtest.InMonth(n))
	}
	var plan []string
	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`); err != nil { // the months are empty
			return err
		}
		rows, err := tx.Query(ctx, `EXPLAIN (COSTS OFF) `+queue.SelectAttemptsSQL, uuid.NewString())
		if err == nil {
			plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	}))
	text := strings.Join(plan, "\n")
	require.NotContains(t, text, "Seq Scan")
	require.Equal(t, roomtest.Count(t, env, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'headgate.outcomes'::regclass`),
		strings.Count(text, "Index Cond: (job_uid = "), text)
}

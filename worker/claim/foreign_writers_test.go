package claim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// cost is what a statement has cost the server besides its answer.
type cost struct {
	Plan struct {
		Records float64 `json:"WAL Records"`
	}
	Triggers []struct {
		Name  string  `json:"Trigger Name"`
		Calls float64 `json:"Calls"`
	}
}

func (c cost) calls() string {
	names := make([]string, len(c.Triggers))
	for i, trigger := range c.Triggers {
		names[i] = trigger.Name
	}
	return strings.Join(names, " ")
}

func costOf(t *testing.T, tx pgx.Tx, sql string, args ...any) cost {
	t.Helper()
	var text []byte
	require.NoError(t, tx.QueryRow(t.Context(), `EXPLAIN (ANALYZE, WAL, FORMAT JSON) `+sql, args...).Scan(&text))
	var costs []cost
	require.NoError(t, json.Unmarshal(text, &costs))
	return costs[0]
}

// endAll is the change that an end makes, and the one that every end of an attempt contains.
const (
	endAll    = `WITH ours AS MATERIALIZED (SELECT ` + claim.OwnSQL + `) UPDATE river_job SET state = 'completed', finalized_at = now() FROM ours WHERE id = ANY ($1) AND state::text = 'running'`
	deleteAll = `DELETE FROM river_job WHERE id = ANY ($1)`
)

// Claims, ends and deletions of what has ended meet none of the triggers that stand before
// other River clients: nothing is called, and no row is locked once more. Of each the
// server's own count of log records is held against the one without triggers; a trigger that
// comes before the change, the control, costs a record a row.
func TestForeignWritersTriggersCostNothing(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	const rows = 200
	measure := func(change string) (claimed, ended, deleted cost) {
		tx, err := env.Pool.Begin(ctx)
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(ctx)) }()
		if change != "" {
			_, err = tx.Exec(ctx, change)
			require.NoError(t, err)
		}
		// A table of this transaction's own, so that each run meets the same pages.
		_, err = tx.Exec(ctx, `TRUNCATE river_job`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, fmt.Sprintf(`INSERT INTO river_job (id, kind, args, queue, max_attempts, metadata) SELECT n, 'act', '{}', 'default', 25, '{}' FROM generate_series(1, %d) n`, rows))
		require.NoError(t, err)
		ids := make([]int64, rows)
		for i := range ids {
			ids[i] = int64(i + 1)
		}
		claimed = costOf(t, tx, claim.TakeSQL, ids, nil, incarnation(1)+":1", 100)
		ended = costOf(t, tx, endAll, ids)
		deleted = costOf(t, tx, deleteAll, ids)
		return claimed, ended, deleted
	}
	const off = `ALTER TABLE river_job DISABLE TRIGGER headgate_foreign_ended; ALTER TABLE river_job DISABLE TRIGGER headgate_foreign_deleted; ALTER TABLE river_job DISABLE TRIGGER headgate_foreign_forgotten`
	claimed, ended, deleted := measure("")
	for _, c := range []cost{claimed, ended, deleted} {
		require.NotContains(t, c.calls(), "foreign")
	}
	claimedWithout, endedWithout, deletedWithout := measure(off)
	require.InDelta(t, claimedWithout.Plan.Records, claimed.Plan.Records, rows/10)
	require.InDelta(t, endedWithout.Plan.Records, ended.Plan.Records, rows/10)
	require.InDelta(t, deletedWithout.Plan.Records, deleted.Plan.Records, rows/10)
	_, endedBefore, deletedBefore := measure(off + `;
CREATE FUNCTION pg_temp.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE OF state OR DELETE ON river_job FOR EACH ROW WHEN (OLD.id < 0) EXECUTE FUNCTION pg_temp.never()`)
	require.NotContains(t, endedBefore.calls(), "never")
	require.Greater(t, endedBefore.Plan.Records, ended.Plan.Records+rows/2)
	require.Greater(t, deletedBefore.Plan.Records, deleted.Plan.Records+rows/2)
	t.Logf("log records of %d rows with the triggers, without, with one before: claim %v, %v; end %v, %v, %v; deletion %v, %v, %v", rows,
		claimed.Plan.Records, claimedWithout.Plan.Records, ended.Plan.Records, endedWithout.Plan.Records, endedBefore.Plan.Records,
		deleted.Plan.Records, deletedWithout.Plan.Records, deletedBefore.Plan.Records)
}

package queue_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// Among 10,000 tenants with four waiting jobs each, the few whose waiting jobs are cancelled,
// and those jobs, are found by indexes; nobody else's rows are read.
func TestJobsOfLeaversAreFoundByIndexes(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	for _, sql := range []string{
		`INSERT INTO headgate.tenants (id, slug, name, org_id, database_id, database_kind)
SELECT gen_random_uuid(), 't' || n, 't' || n, 1000 + n, (SELECT id FROM headgate.databases), 'shared' FROM generate_series(1, 10000) n`,
		`UPDATE headgate.tenants SET status = 'archived', waiting = 'cancel', status_since = now() WHERE slug IN ('t7', 't8')`,
		`UPDATE headgate.tenants SET status = 'suspended' WHERE slug LIKE 't9%'`,
		`INSERT INTO river_job (kind, args, state, queue, max_attempts, scheduled_at, metadata)
SELECT 'note', '{}', CASE WHEN n % 2 = 0 THEN 'available' ELSE 'scheduled' END::river_job_state, 'default', 25,
       CASE WHEN n % 2 = 0 THEN now() ELSE now() + interval '1 day' END, jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', t.id)
FROM headgate.tenants t, generate_series(1, 4) n`,
		`ANALYZE river_job`, `ANALYZE headgate.tenants`,
	} {
		roomtest.Do(t, env, sql)
	}
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, queue.WalkIndexes)
	require.NoError(t, err)
	rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) `+strings.NewReplacer("$1", "1000", "$2", "'1 hour'", "$3", "'{}'::bigint[]").Replace(queue.SelectLeavers))
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	plan := strings.Join(lines, "\n")
	for _, index := range []string{"tenants_waiting_cancel", "river_job_pkey"} {
		require.Contains(t, plan, index, plan)
	}
	require.NotContains(t, plan, "Seq Scan on river_job", plan)
	require.NotContains(t, plan, "Hash Join", plan)
	require.NotContains(t, plan, "Seq Scan on tenants", plan)
	require.Regexp(t, `LockRows \(actual rows=8(\.00)? loops=1\)`, plan)
	require.Contains(t, plan, "Index Cond: ((queue = q.name) AND (", plan)

	// So are those of any tenants that somebody asks about.
	rows, err = tx.Query(ctx, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) `+strings.Replace(queue.CountUnended, "$1", "ARRAY(SELECT id::text FROM headgate.tenants WHERE slug IN ('t7', 't70'))", 1))
	require.NoError(t, err)
	lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	plan = strings.Join(lines, "\n")
	require.NotContains(t, plan, "Seq Scan on river_job", plan)
	require.Regexp(t, `Index Cond: \(\(queue = q(_1)?\.name\) AND \(`, plan)
	require.Contains(t, plan, "river_job_headgate_later", plan)
}

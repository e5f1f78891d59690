package claim_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// claimCost is what a claim's statements read, in buffers, and the indexes they
// walk.
type claimCost struct {
	buffers map[string]float64
	indexes map[string]bool
}

// cost explains the statements of a claim of 50 jobs as they are run: in one
// transaction, with its settings.
func (f *fleet) cost(t *testing.T, most int) claimCost {
	ctx := context.Background()
	cost := claimCost{map[string]float64{}, map[string]bool{}}
	tx, err := f.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, claim.LockSQL, "5s", 0, "3s")
	require.NoError(t, err)
	var turns []byte
	require.NoError(t, tx.QueryRow(ctx, `
SELECT json_agg(json_build_object('i', i, 'lane', lane, 'n', 2, 'kinds', json_build_array(json_build_object('kind', 'a', 'most', 2, 'floors', coalesce(floors, $1::jsonb)))))
FROM (SELECT row_number() OVER () AS i, lane, floors FROM headgate.lanes WHERE active ORDER BY vtime LIMIT 50) l`, claim.Anywhere).Scan(&turns))
	var charges []byte
	require.NoError(t, tx.QueryRow(ctx, `
SELECT json_agg(json_build_object('lane', lane, 'debt', 0.1, 'bill', 0.1, 'dry', 0, 'kinds', json_build_object('a', json_build_object('s', 0.1, 'n', 1, 'e', true))))
FROM (SELECT lane FROM headgate.lanes WHERE active ORDER BY vtime LIMIT 50) l`).Scan(&charges))
	var waiting []int64
	require.NoError(t, tx.QueryRow(ctx, `SELECT array_agg(id) FROM (SELECT id FROM river_job WHERE state = 'available' LIMIT 50) j`).Scan(&waiting))
	_, err = tx.Exec(ctx, `INSERT INTO headgate.wakeups SELECT queue, lane, kind FROM headgate.lanes LIMIT 5`)
	require.NoError(t, err)
	none := []string{}
	for _, q := range []struct {
		name, sql string
		args      []any
	}{
		{"quiet", claim.IdleSQL, []any{"default", claim.Nobody}},
		{"wake", claim.WakeSQL, []any{"default", 0.02, 1e-5, 4, none}},
		{"others", claim.OthersSQL, []any{claim.Nobody}},
		{"limits", claim.LimitsSQL, []any{"default"}},
		{"candidates", claim.CandidatesSQL, []any{"default", []string{"a"}, none, none, none, none, most, none}},
		{"find", claim.FindSQL, []any{"default", turns, 50, nil, []int64{}}},
		{"take", claim.TakeSQL, []any{waiting, nil, "x:1", 100}},
		{"charge", claim.ChargeSQL, []any{"default", charges, 1.0, claim.Anywhere, 0}},
	} {
		rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+q.sql, q.args...)
		require.NoError(t, err, q.name)
		text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]byte])
		require.NoError(t, err, q.name)
		var plans []struct{ Plan map[string]any }
		require.NoError(t, json.Unmarshal(text, &plans))
		hit, _ := plans[0].Plan["Shared Hit Blocks"].(float64)
		read, _ := plans[0].Plan["Shared Read Blocks"].(float64)
		cost.buffers[q.name] = hit + read
		cost.walk(q.name, plans[0].Plan)
	}
	return cost
}

func (c claimCost) walk(name string, node map[string]any) {
	if table, ok := node["Relation Name"].(string); ok {
		if index, ok := node["Index Name"].(string); ok {
			c.indexes[name+": "+table+" by "+index] = true
		} else if node["Node Type"] == "Seq Scan" {
			c.indexes[name+": "+table+" whole"] = true
		}
	}
	children, _ := node["Plans"].([]any)
	for _, child := range children {
		c.walk(name, child.(map[string]any))
	}
}

// What a claim reads does not grow with the number of tenants, the length of the
// queue, or the finished rows in it; with servers it grows by a look at each.
func TestAClaimsCostIsFlat(t *testing.T) {
	t.Parallel()
	measure := func(tenants, servers, backlog, finished int) claimCost {
		f := newFleet(t, tenants, servers)
		if finished > 0 {
			f.exec(`INSERT INTO river_job (kind, args, max_attempts, state, finalized_at) SELECT 'a', '{}', 1, 'completed', now() FROM generate_series(1, $1::int)`, finished)
		}
		f.exec(addJobs, backlog, "a", 1, tenants)
		p := f.process(50, "a")
		p.finish(p.claim(context.Background(), 50)...)
		f.exec(`VACUUM (ANALYZE) river_job, headgate.lanes, headgate.wakeups`)
		cost := f.cost(t, max(2*50/servers, 2)+2) // as claimer.most
		t.Logf("%d tenants, %d servers, %d waiting, %d finished: %v", tenants, servers, backlog, finished, cost.buffers)
		return cost
	}
	few := measure(150, 1, 2_000, 0)
	for _, much := range []claimCost{measure(2_000, 1, 15_000, 0), measure(150, 1, 30_000, 30_000)} {
		for name, buffers := range few.buffers {
			// A tree that is one level higher costs one buffer a probe.
			require.LessOrEqual(t, much.buffers[name], 1.6*buffers+30, name)
		}
		require.True(t, much.indexes["candidates: lanes by lanes_walk"], "%v", much.indexes)
		require.True(t, much.indexes["find: river_job by river_job_headgate_lane"], "%v", much.indexes)
		for index := range much.indexes {
			require.NotContains(t, []string{"candidates: lanes whole", "find: river_job whole", "take: river_job whole", "charge: lanes whole", "wake: lanes whole", "wake: tenants whole", "quiet: lanes whole"}, index)
		}
	}
	spread := measure(2_000, 40, 15_000, 0)
	require.LessOrEqual(t, spread.buffers["candidates"], 8*few.buffers["candidates"], "a few lanes of each of 40 servers")
	require.LessOrEqual(t, spread.buffers["find"], 1.6*few.buffers["find"]+30)
}

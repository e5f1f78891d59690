package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// Beside a snapshot that stays open, a claim reads about as much as without: lanes
// know where their rows begin, and what claims write is written anew.
func TestASnapshotCostsClaimsNothing(t *testing.T) {
	t.Parallel()
	const tenants, jobs = 20, 400
	f := newFleet(t, tenants, 1)
	p := f.process(50, "a")
	ctx := context.Background()
	through := func(rounds int) { // so many times jobs, each claimed and ended
		for range rounds {
			f.exec(addJobs, jobs, "a", 1, tenants)
			for done := 0; done < jobs; {
				got := p.claim(ctx, 50)
				require.NotEmpty(t, got)
				p.finish(got...)
				done += len(got)
			}
		}
		f.exec(addJobs, jobs, "a", 1, tenants)
		p.finish(p.claim(ctx, 50)...)
	}
	through(1)
	f.exec(`VACUUM (ANALYZE) river_job, headgate.lanes, headgate.wakeups, headgate.lane_groups, headgate.lane_clocks, headgate.hands`)
	fresh := f.cost(t, 50)

	tx, err := f.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	var waiting int
	require.NoError(t, tx.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE state = 'available'`).Scan(&waiting))
	through(40) // which leaves some 1,800 dead rows of lanes
	f.exec(`VACUUM (ANALYZE) river_job, headgate.lanes, headgate.wakeups, headgate.lane_groups, headgate.lane_clocks, headgate.hands`)
	bloated := f.cost(t, 50)
	for _, name := range []string{"wake", "charge"} {
		require.Greater(t, bloated.buffers[name], 2*fresh.buffers[name], "%s: nothing to be mended here", name)
	}
	require.LessOrEqual(t, bloated.buffers["find"], 2*fresh.buffers["find"]+50)
	f.exec(`CREATE TABLE known AS SELECT lane, floors FROM headgate.lanes`)
	f.exec(`UPDATE headgate.lanes SET floors = NULL`)
	require.Greater(t, f.cost(t, 50).buffers["find"], 3*fresh.buffers["find"], "without floors")
	f.exec(`UPDATE headgate.lanes l SET floors = k.floors FROM known k WHERE k.lane = l.lane`)

	keeper := claim.NewKeeper(claim.KeeperConfig{Pool: f.pool, Lease: p.lease, Worker: "w"})
	f.exec(`INSERT INTO headgate.wakeups (queue, lane, kind) VALUES ('kept', 'kept', 'kept')`)
	require.Eventually(t, func() bool { // a session tells Postgres what it has done once a second while it is at work
		p.finish(p.claim(ctx, 1)...)
		return f.dead("lanes") > 1500
	}, 10*time.Second, 50*time.Millisecond)
	before := f.tables()
	parts, err := claim.Rewrite(ctx, keeper, 1<<30)
	require.NoError(t, err)
	require.Empty(t, parts, "vacuum's work, where there is no old snapshot")
	parts, err = claim.Rewrite(ctx, keeper, 100)
	require.NoError(t, err)
	require.Contains(t, parts, "lanes")
	require.Equal(t, before, f.tables(), "not a row is lost")
	rewritten := f.cost(t, 50)
	t.Logf("fresh %v, bloated %v, rewritten %v", fresh.buffers, bloated.buffers, rewritten.buffers)
	for name, buffers := range fresh.buffers {
		require.LessOrEqual(t, rewritten.buffers[name], 2*buffers+50, name)
	}
}

// dead is how many dead rows Postgres knows of in a table of ours.
func (f *fleet) dead(table string) (n int) {
	require.NoError(f.t, f.pool.QueryRow(context.Background(), `SELECT pg_stat_get_dead_tuples(('headgate.' || $1)::regclass)`, table).Scan(&n))
	return n
}

// tables is all that the rewritten tables hold.
func (f *fleet) tables() (all string) {
	require.NoError(f.t, f.pool.QueryRow(context.Background(), `
SELECT jsonb_build_array((SELECT jsonb_agg(t ORDER BY t) FROM headgate.lanes t), (SELECT jsonb_agg(t ORDER BY t) FROM headgate.lane_groups t),
    (SELECT jsonb_agg(t ORDER BY t) FROM headgate.lane_clocks t),
    (SELECT jsonb_agg(t ORDER BY t) FROM headgate.hands t), (SELECT jsonb_agg(t ORDER BY t) FROM headgate.lane_rates t),
    (SELECT jsonb_agg(t ORDER BY t) FROM headgate.wakeups t))`).Scan(&all))
	return all
}

// What somebody reads or writes is not waited for.
func TestARewriteWaitsForNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	p := f.process(5, "a")
	ctx := context.Background()
	f.exec(`ALTER TABLE headgate.wakeups SET (autovacuum_enabled = false)`) // it would take the dead rows away
	f.exec(`INSERT INTO headgate.wakeups SELECT 'other', 'x', 'a' FROM generate_series(1, 3000)`)
	f.exec(`DELETE FROM headgate.wakeups WHERE queue = 'other'`)
	keeper := claim.NewKeeper(claim.KeeperConfig{Pool: f.pool, Lease: p.lease, Worker: "w"})
	require.Eventually(t, func() bool { return f.dead("wakeups") > 1000 }, time.Minute, 50*time.Millisecond)

	tx, err := f.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, addOne, 1, "a", 1, 0)
	require.NoError(t, err)
	parts, err := claim.Rewrite(ctx, keeper, 0)
	require.NoError(t, err)
	require.Empty(t, parts)
	require.NoError(t, tx.Commit(ctx))
	parts, err = claim.Rewrite(ctx, keeper, -1)
	require.NoError(t, err)
	require.Equal(t, []string{"wakeups"}, parts)
	require.Len(t, p.claim(ctx, 5), 1, "its wake-up is still there")
}

// A rewrite takes rows through text, and virtual times come back as they were,
// whatever the database says of the digits of numbers.
func TestARewriteKeepsVirtualTimes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	p := f.process(5, "a")
	ctx := context.Background()
	f.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -10', current_database()); END $$`)
	f.pool.Reset()
	f.exec(addOne, 1, "a", 1, 0)
	require.Len(t, p.claim(ctx, 5), 1)
	f.exec(`ALTER TABLE headgate.lanes SET (autovacuum_enabled = false)`)
	f.exec(`DO $$ BEGIN FOR i IN 1..2000 LOOP UPDATE headgate.lanes SET vtime = i + 1::float8 / 3; END LOOP; END $$`)
	keeper := claim.NewKeeper(claim.KeeperConfig{Pool: f.pool, Lease: p.lease, Worker: "w"})
	require.Eventually(t, func() bool { return f.dead("lanes") > 1000 }, time.Minute, 50*time.Millisecond)
	const bits = `SELECT encode(float8send(vtime), 'hex') FROM headgate.lanes`
	var before, after string
	require.NoError(t, f.pool.QueryRow(ctx, bits).Scan(&before))
	parts, err := claim.Rewrite(ctx, keeper, -1)
	require.NoError(t, err)
	require.Contains(t, parts, "lanes")
	require.NoError(t, f.pool.QueryRow(ctx, bits).Scan(&after))
	require.Equal(t, before, after)
}

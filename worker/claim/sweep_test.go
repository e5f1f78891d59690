package claim_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// addStaleLanes adds active lanes of owners that nobody knows, with a copy of a server that
// they are not on.
const addStaleLanes = `
INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT 'a', gen_random_uuid()::text, 'note', true, 0, 1, gen_random_uuid(), gen_random_uuid(), '', 1 FROM generate_series(1, $1)`

// What a part of a sweep has woken is awake whatever becomes of the next part, and the next
// pass goes on behind it: with many lanes, or a busy server, a sweep took more than the time
// of its pass, was undone, and never came to its end.
func TestASweepComesToItsEndInParts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	p := f.process(10, "a")
	f.exec(addStaleLanes, 2*claim.LanesAtOnce+7)
	ctx := context.Background()
	keeper := claim.NewKeeper(claim.KeeperConfig{Pool: f.pool, Lease: p.lease, Worker: "w"})

	over, cancel := context.WithCancel(ctx)
	cancel()
	seen := []int{}
	for range 10 {
		woken, err := claim.SweepPart(keeper, ctx)
		require.NoError(t, err)
		if woken > 0 {
			seen = append(seen, f.number(`SELECT count(*) FROM headgate.wakeups`))
		}
		if len(seen) == 1 { // the time of a pass is up behind the first part
			_, err = claim.SweepPart(keeper, over)
			require.ErrorIs(t, err, context.Canceled)
		}
		if len(seen) == 3 {
			break
		}
	}
	require.Equal(t, []int{claim.LanesAtOnce, 2 * claim.LanesAtOnce, 2*claim.LanesAtOnce + 7}, seen)
	found, err := claim.SweepLanes(keeper, ctx)
	require.NoError(t, err)
	require.Zero(t, found, "the rest of the sweep wakes nobody again")
}

// A step of the sweep that fails keeps no other from its work.
func TestAStepOfTheSweepThatFailsKeepsNoOtherFromItsWork(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	p := f.process(10, "a")
	f.exec(addStaleLanes, 5)
	f.exec(`ALTER TABLE headgate.unserved_queues RENAME TO away`)
	ctx := context.Background()
	keeper := claim.NewKeeper(claim.KeeperConfig{Pool: f.pool, Lease: p.lease, Worker: "w"})
	found, err := claim.SweepLanes(keeper, ctx)
	require.ErrorContains(t, err, "unserved_queues")
	require.EqualValues(t, 5, found)
}

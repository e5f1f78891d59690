package claim_test

import (
	"context"
	"testing"

	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// A claim takes as many jobs as there are free slots when it chooses: River counted
// them when it called, and jobs have ended since. It never takes more than that, and
// River, which calls again at once only after as many as it asked for, is woken for
// when the first of them ends.
func TestAClaimTakesTheSlotsThatAreFree(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 1)
	f.exec(addJobs, 60, "k", 1, 3)
	p, ctx := f.process(10, "k"), context.Background()
	p.lease.Slots(map[string]int{"default": 10})
	var err error
	_, p.state, err = p.pilot.ProducerInit(ctx, p.exec, &riverpilot.ProducerInitParams{ClientID: "test", Queue: "default"})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.pilot.ProducerShutdown(ctx, p.exec, &riverpilot.ProducerShutdownParams{Queue: "default"}))
	})

	deaf := p.claim(ctx, 4)
	require.Len(t, deaf, 4, "a worker that only polls would not claim again before its next poll")

	require.False(t, claim.Listen(p.lease))
	more := p.claim(ctx, 1)
	require.Len(t, more, 6, "4 of 10 slots are taken, River knew of one that is free")
	require.False(t, claim.Listen(p.lease), "there is no free slot yet")

	p.finish(more[:3]...)
	require.True(t, claim.Listen(p.lease))
	require.False(t, claim.Listen(p.lease), "once")
	require.Len(t, p.claim(ctx, 3), 3, "all that are free")
	require.False(t, claim.Listen(p.lease), "River asked for all of them, and calls again by itself")

	require.Len(t, p.claim(ctx, 2), 2, "a stuck job's slot is one that River gives out")
	p.finish(deaf...)
	require.False(t, claim.Listen(p.lease))
	f.exec(`DELETE FROM river_job WHERE state = 'available'`)
	f.exec(addJobs, 1, "k", 1, 1)
	require.Len(t, p.claim(ctx, 1), 1)
	require.False(t, claim.Listen(p.lease), "nothing is left")
}

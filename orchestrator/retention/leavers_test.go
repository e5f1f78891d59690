package retention_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// Waiting jobs of a tenant that takes no work are cancelled where that was decided, now or
// later ones, and nobody else's; the reason says why.
func TestWaitingJobsOfLeaversAreCancelled(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	enqueue := func(tenant string, in time.Duration) string {
		opts := &jobs.EnqueueOpts{}
		if in > 0 {
			opts.RunAt = time.Now().Add(in)
		}
		result, err := env.Client.Enqueue(ctx, tenant, roomtest.Note{Text: "x"}, opts)
		require.NoError(t, err)
		return result.UID
	}
	now, later, brick := enqueue("acme", 0), enqueue("acme", time.Hour), enqueue("brick", 0)
	j := roomtest.Janitor(t, env, retention.Config{})
	suspend := func(tenant string, waiting catalog.Waiting) {
		_, err := env.Catalog.Editor().SetStatus(ctx, []string{tenant}, catalog.StatusChange{To: catalog.Suspended, Reason: "invoice 4711", Waiting: waiting})
		require.NoError(t, err)
	}
	suspend("brick", catalog.HoldWaiting)
	suspend("acme", catalog.HoldWaiting)
	require.Zero(t, roomtest.Sweep(t, j).Cancelled)
	suspend("acme", catalog.CancelWaiting)
	require.Equal(t, 2, roomtest.Sweep(t, j).Cancelled)
	require.Zero(t, roomtest.Sweep(t, j).Cancelled)
	for _, uid := range []string{now, later} {
		job := roomtest.JobOf(t, env, uid)
		require.Equal(t, jobs.Cancelled, job.State)
		require.Equal(t, "tenant acme is suspended: invoice 4711", job.Cancel.Reason)
	}
	require.Equal(t, jobs.Waiting, roomtest.JobOf(t, env, brick).State)
}

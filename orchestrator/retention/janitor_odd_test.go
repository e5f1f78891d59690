package retention_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// A cancelled job whose row is odd, in a queue that no worker can have, or that takes
// no note, keeps no other from its tombstone, and has one itself where that is possible.
func TestOddRowsKeepNobodyFromATombstone(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for column, odd := range map[string]string{
		"queue": `repeat(U&'\+01F600', 127)`, "created_at": `'infinity'`, "tags": `'{NULL}'`, "attempted_by": `'{{a,b}}'`, "attempt": `'-32768'`, "scheduled_at": `'-infinity'`,
	} {
		job := roomtest.Enqueue(t, env)
		roomtest.RunUnder(t, env, env.RowOf(job.UID))
		_, err := env.Client.Cancel(ctx, job.UID, nil)
		require.NoError(t, err)
		roomtest.Age(t, env, env.RowOf(job.UID))
		roomtest.Do(t, env, fmt.Sprintf(`UPDATE river_job SET %s = %s WHERE id = $1`, column, odd), env.RowOf(job.UID))
	}
	stubborn, plain := roomtest.Enqueue(t, env), roomtest.Enqueue(t, env)
	for _, job := range []jobs.EnqueueResult{stubborn, plain} {
		roomtest.RunUnder(t, env, env.RowOf(job.UID))
		_, err := env.Client.Cancel(ctx, job.UID, nil)
		require.NoError(t, err)
		roomtest.Age(t, env, env.RowOf(job.UID))
	}
	roomtest.Do(t, env, fmt.Sprintf(`ALTER TABLE river_job ADD CONSTRAINT stubborn CHECK (id <> %d OR NOT metadata ? 'tombstone_uid')`, env.RowOf(stubborn.UID)))
	swept, err := roomtest.Janitor(t, env, retention.Config{}).RunOnce(ctx)
	require.ErrorContains(t, err, stubborn.UID)
	require.Equal(t, 7, swept.Tombstones)
	require.NotEmpty(t, roomtest.JobOf(t, env, plain.UID).Tombstone)
}

package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// Enqueuers who come at the same time are rung for together, and none is left
// out: each here has a queue of its own, which must be heard of.
func TestEnqueuersAtOnceWakeEveryQueue(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	listener, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(ctx, `LISTEN "public.river_insert"`)
	require.NoError(t, err)

	const enqueuers, each = 16, 20
	var group errgroup.Group
	for i := range enqueuers {
		group.Go(func() error {
			for j := range each {
				if _, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &jobs.EnqueueOpts{Queue: fmt.Sprintf("q-%d-%d", i, j)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	heard := map[string]bool{}
	for len(heard) < enqueuers*each {
		n, err := listener.WaitForNotification(ctx)
		require.NoError(t, err, "%d of %d queues were woken", len(heard), enqueuers*each)
		var payload struct{ Queue string }
		require.NoError(t, json.Unmarshal([]byte(n.Payload), &payload))
		require.False(t, heard[payload.Queue], "queue %s was woken twice for one job", payload.Queue)
		heard[payload.Queue] = true
	}
}

// A caller who gives up after the commit does not take the wake-up with it.
func TestAWakeUpOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	listener, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(ctx, `LISTEN "public.river_insert"`)
	require.NoError(t, err)
	gone, leave := context.WithCancel(ctx)
	leave()
	queue.New(queue.Config{Pool: env.Pool, Catalog: env.Catalog, Logger: env.Log}).Ring(gone, "left")
	n, err := listener.WaitForNotification(ctx)
	require.NoError(t, err)
	require.Contains(t, n.Payload, "left")
}

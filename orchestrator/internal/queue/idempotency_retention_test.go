package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// An idempotency key is kept for all of its retention, and no longer, whether or not
// the janitor has been there.
func TestAnIdempotencyKeyIsKeptForItsRetention(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	first, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, key("k"))
	require.NoError(t, err)
	roomtest.PutInto(t, env, env.RowOf(first.UID), "completed")
	age := func(of time.Duration) {
		roomtest.Do(t, env, `UPDATE headgate.idempotency_keys SET created_at = now() - $1::interval`, of)
	}
	age(jobs.IdempotencyRetention - time.Minute)
	again, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, key("k"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusSame, again.Status)
	require.Equal(t, first.UID, again.UID)
	age(jobs.IdempotencyRetention + time.Minute)
	fresh, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, key("k"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, fresh.Status)
	require.NotEqual(t, first.UID, fresh.UID)
}

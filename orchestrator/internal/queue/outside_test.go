package queue_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// Watched are arguments that see how many connections are in use while they are encoded.
type Watched struct {
	Pool *pgxpool.Pool
	Most *int32
}

func (Watched) Kind() string { return "watched" }

func (w Watched) MarshalJSON() ([]byte, error) {
	*w.Most = max(*w.Most, w.Pool.Stat().AcquiredConns())
	return json.Marshal(map[string]string{})
}

// What takes long of a request, its arguments, is done before a transaction begins: the
// server ends a transaction that is left idle, and others wait for its locks.
func TestArgumentsAreEncodedBeforeTheTransaction(t *testing.T) {
	t.Parallel()
	env, ctx := roomtest.Setup(t), context.Background()
	pool, err := pgxpool.New(ctx, env.URL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
	require.NoError(t, err)
	var most int32
	args := Watched{Pool: pool, Most: &most}
	_, err = client.Enqueue(ctx, "acme", args, nil)
	require.NoError(t, err)
	_, err = client.EnqueueMany(ctx, []jobs.EnqueueParams{{Tenant: "acme", Args: args}, {Tenant: "brick", Args: args}})
	require.NoError(t, err)
	require.Zero(t, most)

	tx, err := pool.Begin(ctx) // the control: the application's own transaction
	require.NoError(t, err)
	_, err = client.EnqueueTx(ctx, tx, "acme", args, nil)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	require.EqualValues(t, 1, most)
}

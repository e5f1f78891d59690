package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// A worker that was declared dead cancels its jobs once, also if its new
// incarnation cannot be registered at first.
func TestFencedOnceThoughRegisteringFails(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	fenced := 0
	lease := claim.NewLease()
	k := claim.NewKeeper(claim.KeeperConfig{
		Pool: env.Pool, Lease: lease, Worker: "w", Kinds: []string{"x"}, Queues: []string{"default"},
		Every: time.Hour, DeadAfter: 3 * time.Hour, Fenced: func() { fenced++ }, Logger: env.Log,
	})
	require.NoError(t, k.Start(ctx))
	t.Cleanup(func() { require.NoError(t, k.Stop(ctx)) })
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.workers SET reaped_at = now();
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON headgate.workers EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	for range 2 {
		_, err = claim.Pass(k, ctx, time.Now())
		require.ErrorContains(t, err, "no room")
	}
	_, err = env.Pool.Exec(ctx, `DROP TRIGGER refuse ON headgate.workers`)
	require.NoError(t, err)
	_, err = claim.Pass(k, ctx, time.Now())
	require.NoError(t, err)
	require.Equal(t, 1, fenced)
	var alive string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT incarnation FROM headgate.workers WHERE reaped_at IS NULL`).Scan(&alive))
	require.Equal(t, lease.Incarnation(), alive)
}

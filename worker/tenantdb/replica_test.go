package tenantdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// The connections of a read address are others than those of the login's own, and count
// against the same budget. A read address that leads to a primary is not read from.
func TestReadAddressesAreKeptApart(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{On: jobstest.Direct(t)})
	place, err := env.Catalog.ResolveDatabase(t.Context(), db.ID, jobs.LoginJob)
	require.NoError(t, err)
	place.OpenRead, place.ReadVersion = place.Open, place.Version
	replica, some := place.Replica()
	require.True(t, some)
	backend := func(pools *tenantdb.Pools, place address.Place) (pid int) {
		t.Helper()
		require.NoError(t, pools.With(t.Context(), place, func(ctx context.Context, conn *tenantdb.Conn) error {
			return conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
		}))
		return pid
	}
	never := func(context.Context, *tenantdb.Conn, time.Duration) error {
		t.Error("a primary was read from as if it were a replica")
		return nil
	}

	two := tenantdb.New(tenantdb.Config{MaxConns: 2, IdleTimeout: time.Minute, Logger: env.Log})
	t.Cleanup(two.Close)
	own, read := backend(two, place), backend(two, replica)
	require.NotEqual(t, own, read)
	require.Equal(t, own, backend(two, place))
	require.Equal(t, read, backend(two, replica))
	require.ErrorIs(t, two.WithReplica(t.Context(), place, time.Minute, never), tenantdb.ErrNoReplica)
	require.Equal(t, own, backend(two, place), "what was found ends no connection")
	require.Equal(t, read, backend(two, replica))

	one := tenantdb.New(tenantdb.Config{MaxConns: 1, IdleTimeout: time.Minute, Logger: env.Log})
	t.Cleanup(one.Close)
	for range 3 {
		require.ErrorContains(t, one.WithReplica(t.Context(), place, time.Minute, never), "it takes writes")
		require.Equal(t, 1, one.Open(), "one connection at a time will do")
	}
	place.OpenRead = nil
	require.ErrorContains(t, one.WithReplica(t.Context(), place, time.Minute, never), "database acme has no read address")
}

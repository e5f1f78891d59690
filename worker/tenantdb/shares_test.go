package tenantdb_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The server ends what a frozen process keeps idle, and the process, when it wakes,
// has no error of it.
func TestTheServerEndsIdleSessions(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	places, users := many(t, env, 3)
	pools := tenantdb.New(tenantdb.Config{IdleTimeout: 2 * time.Second, Logger: env.Log}) // a slow machine freezes them in that
	t.Cleanup(pools.Close)
	use := func(conn *tenantdb.Conn) error {
		_, err := conn.Exec(context.Background(), `SELECT 1`)
		return err
	}
	for _, place := range places {
		require.NoError(t, pools.With(context.Background(), place, func(_ context.Context, conn *tenantdb.Conn) error { return use(conn) }))
	}
	tenantdb.Freeze(pools)
	require.Equal(t, 3, pools.Open(), "as far as the process knows")
	began := time.Now()
	backends := func() (n int) {
		require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE usename = ANY ($1)`, users).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return backends() == 0 }, time.Minute, 5*time.Millisecond)
	t.Logf("gone after %s", time.Since(began).Round(time.Millisecond))
	for _, place := range places {
		require.NoError(t, pools.With(context.Background(), place, func(_ context.Context, conn *tenantdb.Conn) error { return use(conn) }))
	}
}

// A share above running jobs is used until it lapses; then connections that are idle
// close, no other is made, and those of jobs go on.
func TestAShareLapses(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	places, _ := many(t, env, 4)
	pools := tenantdb.New(tenantdb.Config{IdleTimeout: time.Hour, ShareFor: time.Second, Logger: env.Log})
	t.Cleanup(pools.Close)
	id := places[0].ServerID
	alone := func(string) (int, bool) { return math.MaxInt, false }
	closed := func() {}
	pools.SyncAllowance(map[string]int{id: 2}, alone, closed)
	pools.RaiseAllowance(map[string]tenantdb.Share{id: {Conns: 4, Busy: 2}}, time.Now())
	ctx := context.Background()
	nothing := func(context.Context, *tenantdb.Conn) error { return nil }
	// One job goes on; another has been to three databases.
	goOn, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- pools.With(ctx, places[3], func(context.Context, *tenantdb.Conn) error { <-goOn; return nil })
	}()
	require.Eventually(t, func() bool { return pools.Open() == 1 }, time.Minute, time.Millisecond)
	for _, place := range places[:3] {
		require.NoError(t, pools.With(ctx, place, nothing))
	}
	require.Equal(t, 4, pools.Open())
	require.Equal(t, tenantdb.Share{Conns: 4, Busy: 2}, pools.SyncAllowance(map[string]int{id: 2}, alone, closed)[id])
	pools.RaiseAllowance(map[string]tenantdb.Share{id: {Conns: 4, Busy: 2}}, time.Time{}) // which renews nothing
	require.Eventually(t, func() bool {
		// The pass that closes them is an hour's eighth away.
		return pools.With(ctx, places[2], nothing) == nil && pools.Open() <= 3
	}, 10*time.Second, 20*time.Millisecond, "what comes back beyond it is closed")
	tenantdb.CloseIdle(pools)
	require.Eventually(t, func() bool { return pools.Open() == 2 }, time.Minute, time.Millisecond)
	close(goOn)
	require.NoError(t, <-over)

	pools.RaiseAllowance(map[string]tenantdb.Share{}, time.Now())
	tenantdb.CloseIdle(pools)
	require.Eventually(t, func() bool { return pools.Open() == 0 }, time.Minute, time.Millisecond)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err := pools.With(short, places[1], nothing)
	require.Error(t, err)
	require.True(t, errors.Is(err, context.DeadlineExceeded), "%v", err)
}

// Idle connections that others wait for close at once, and who waited is told; what
// jobs use stays, and what nobody waits for stays for a second.
func TestWhatOthersWaitForCloses(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	places, users := many(t, env, 3)
	pools := tenantdb.New(tenantdb.Config{IdleTimeout: time.Hour, Logger: env.Log})
	t.Cleanup(pools.Close)
	id := places[0].ServerID
	ctx := context.Background()
	for _, place := range places {
		require.NoError(t, pools.With(ctx, place, func(context.Context, *tenantdb.Conn) error { return nil }))
	}
	told := make(chan struct{}, 3)
	settle := func(keep int, wanted bool) tenantdb.Share {
		return pools.SyncAllowance(map[string]int{}, func(string) (int, bool) { return keep, wanted }, func() { told <- struct{}{} })[id]
	}
	pools.SyncAllowance(nil, func(string) (int, bool) { return 3, false }, nil)
	pools.RaiseAllowance(map[string]tenantdb.Share{id: {Conns: 3}}, time.Now())
	require.Equal(t, 3, settle(2, false).Conns, "nobody waits yet")
	require.Equal(t, 3, settle(1, true).Conns, "they count until they are closed")
	<-told
	<-told
	require.Equal(t, 1, settle(1, true).Conns)
	var n int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename = ANY ($1)`, users).Scan(&n))
	require.Equal(t, 1, n, "by then they are gone from the server")
	require.Eventually(t, func() bool { return settle(0, false).Conns == 0 }, time.Minute, 10*time.Millisecond, "kept from those who have none")
}

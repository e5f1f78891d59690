package tenantdb_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// many makes databases on the test server, and the places of their job logins.
// They are told from others' by their users. What counts backends goes past a
// pooler, which has its own.
func many(t *testing.T, env *jobstest.Env, n int) (places []address.Place, users []string) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("d%d", i)
		db := env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", On: jobstest.Direct(t)})
		place, err := env.Catalog.ResolveDatabase(context.Background(), name, jobs.LoginJob)
		require.NoError(t, err)
		places, users = append(places, place), append(users, db.Job.User)
	}
	return places, users
}

// watch samples the backends of users until stop is called, and returns their
// highest number.
func watch(t *testing.T, env *jobstest.Env, users []string, every time.Duration) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	highest := make(chan int, 1)
	go func() {
		top := 0
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				highest <- top
				return
			case <-tick.C:
			}
			var n int
			err := env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE usename = ANY ($1)`, users).Scan(&n)
			if err != nil {
				t.Errorf("counting backends: %v", err)
			}
			top = max(top, n)
		}
	}()
	return func() int { cancel(); return <-highest }
}

// Databases without number, one budget: the server never sees more connections
// than that, every job gets its turn, and jobs of one database that wait
// together share a connection.
func TestTheBudgetOfAServer(t *testing.T) {
	t.Parallel()
	keepsTheBudget(t, 12, 5, 24, 20, 5*time.Millisecond)
}

func keepsTheBudget(t *testing.T, databases, budget, goroutines, each int, sample time.Duration) {
	env := jobstest.New(t)
	places, users := many(t, env, databases)
	for _, c := range []struct {
		name string
		next func(i int) int // the database of a goroutine's ith job
	}{
		{"spread", func(int) int { return rand.IntN(databases) }},
		{"in runs", func(i int) int { return i / 8 % databases }},
	} {
		pools := tenantdb.New(tenantdb.Config{MaxConns: budget, Logger: env.Log})
		stop := watch(t, env, users, sample)
		var connects atomic.Int64
		var seen sync.Map
		var group sync.WaitGroup
		for range goroutines {
			group.Go(func() {
				for i := range each {
					ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
					err := pools.With(ctx, places[c.next(i)], func(ctx context.Context, conn *tenantdb.Conn) error {
						if _, known := seen.LoadOrStore(conn, true); !known {
							connects.Add(1)
						}
						_, err := conn.Exec(ctx, `SELECT 1`)
						return err
					})
					cancel()
					if err != nil {
						t.Errorf("a job failed: %v", err)
					}
				}
			})
		}
		group.Wait()
		highest := stop()
		stats := pools.Servers()
		require.Len(t, stats, 1)
		require.LessOrEqual(t, stats[0].Open, budget)
		pools.Close()
		t.Logf("%s: %d jobs, %d connects, at most %d backends of %d", c.name, goroutines*each, connects.Load(), highest, budget)
		require.LessOrEqual(t, highest, budget, "the server saw more sessions than its budget")
		if c.name == "in runs" {
			require.Less(t, connects.Load(), int64(goroutines*each/4), "jobs of one database that wait together did not share connections")
		}
	}
}

// groupSize is how many goroutines of a profile have one stack.
var groupSize = regexp.MustCompile(`(?m)^(\d+) @ `)

// labelled counts the goroutines of this process that bear a label: goroutines inherit the
// labels of who starts them.
func labelled(t *testing.T, label string) (n int) {
	t.Helper()
	var profile bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(group, `# labels: {"test":"`+label+`"}`) {
			found := groupSize.FindStringSubmatch(group)
			require.NotNil(t, found, group)
			one, err := strconv.Atoi(found[1])
			require.NoError(t, err, group)
			n += one
		}
	}
	return n
}

// A thousand databases touched in turn leave no goroutine and no connection
// behind each.
func TestIdleServersCostNothing(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	places, users := many(t, env, 6)
	pools := tenantdb.New(tenantdb.Config{MaxConns: 4, IdleTimeout: 100 * time.Millisecond, Logger: env.Log})
	t.Cleanup(pools.Close)
	label := t.Name()
	pprof.Do(context.Background(), pprof.Labels("test", label), func(ctx context.Context) {
		end := make(chan struct{})
		go func() { <-end }()
		require.Equal(t, 2, labelled(t, label), "the control: this one, and that")
		close(end)
		for i := range 60 {
			require.NoError(t, pools.With(ctx, places[i%len(places)], func(ctx context.Context, conn *tenantdb.Conn) error {
				return conn.Ping(ctx)
			}))
		}
		require.Less(t, labelled(t, label), 40)
	})
	require.Eventually(t, func() bool {
		var n int
		err := env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE usename = ANY ($1)`, users).Scan(&n)
		return err == nil && n == 0 && pools.Open() == 0 && len(pools.Servers()) == 0
	}, 10*time.Second, 10*time.Millisecond)
}

// What is waiting is served in order, but for a few of the same database as the
// connection that comes back.
func TestWaitersAreServedInOrder(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	places, _ := many(t, env, 2)
	pools := tenantdb.New(tenantdb.Config{MaxConns: 1, Logger: env.Log})
	t.Cleanup(pools.Close)
	var mu sync.Mutex
	var order []int
	var group sync.WaitGroup
	require.NoError(t, pools.With(context.Background(), places[0], func(context.Context, *tenantdb.Conn) error {
		for i := range 14 {
			group.Go(func() {
				err := pools.With(context.Background(), places[min(i, 1)^1], func(context.Context, *tenantdb.Conn) error {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, i)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			require.Eventually(t, func() bool { return pools.Servers()[0].Waiting == i+1 }, time.Minute, time.Millisecond)
		}
		return nil
	}))
	group.Wait()
	// The first wants the other database; eight of this one's may go before it.
	require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 10, 11, 12, 13}, order)
}

// A budget that shrinks while all connections are in use is kept as they come back: one
// after the other is closed until so many are left, and those stay.
func TestABudgetThatShrinksIsKeptAsConnectionsComeBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{MaxConns: 4})
	begun, free, back := make(chan bool), make(chan bool), make(chan error, 4)
	defer close(free) // also if the test fails: the end of the pools waits for them
	for range 4 {
		go func() {
			back <- pools.With(ctx, place, func(context.Context, *tenantdb.Conn) error { begun <- true; <-free; return nil })
		}()
		<-begun
	}
	smaller := place
	smaller.Budget = 2
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, pools.With(over, smaller, func(context.Context, *tenantdb.Conn) error { return nil }))
	require.Equal(t, 4, pools.Open(), "what is in use stays so")
	for _, left := range []int{3, 2, 2, 2} {
		free <- true
		require.NoError(t, <-back)
		require.Equal(t, left, pools.Open())
	}
}

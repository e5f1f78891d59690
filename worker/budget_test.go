package worker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// Visit is a job that does next to nothing, in its tenant's database.
type Visit struct{}

func (Visit) Kind() string { return "visit" }

// estate is databases of one server that has a budget, a tenant in each.
type estate struct {
	env    *jobstest.Env
	server string
	slugs  []string
	users  []string
}

func newEstate(t *testing.T, databases, budget int) *estate {
	on := jobstest.Direct(t) // backends are counted, and a pooler has its own
	e := &estate{env: jobstest.New(t), server: on.Name}
	for d := range databases {
		name := fmt.Sprintf("d%d", d)
		db := e.env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", On: on})
		e.slugs, e.users = append(e.slugs, e.env.Tenant(name, name).Slug), append(e.users, db.Job.User)
	}
	_, err := e.env.Catalog.SetServer(context.Background(), e.server, catalog.ServerChange{Budget: new(budget)})
	require.NoError(t, err)
	return e
}

// work starts a worker with a central pool of its own, as a process has.
func (e *estate) work(t *testing.T, queue string, slots int, visit jobs.TxHandler[Visit], others ...func(*worker.Worker)) *worker.Worker {
	cfg := e.env.Config()
	cfg.Queues, cfg.Logger = map[string]int{queue: slots}, quietLogger()
	cfg.Tenants.MaxConns = 200
	return e.env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, visit)
		for _, more := range others {
			more(w)
		}
	})
}

// enqueue enqueues n visits, a tenant after the other.
func (e *estate) enqueue(t *testing.T, n int, queue string) {
	var params []jobs.EnqueueParams
	for i := range n {
		params = append(params, jobs.EnqueueParams{Tenant: e.slugs[i%len(e.slugs)], Args: Visit{}, Opts: &jobs.EnqueueOpts{Queue: queue}})
	}
	_, err := e.env.Client.EnqueueMany(context.Background(), params)
	require.NoError(t, err)
}

// watch samples the server's own count of the jobs' sessions until stop, which
// returns the highest.
func (e *estate) watch(t *testing.T) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	highest := make(chan int, 1)
	go func() {
		top := 0
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				highest <- top
				return
			case <-tick.C:
				top = max(top, e.backends(t))
			}
		}
	}()
	stop = sync.OnceValue(func() int { cancel(); return <-highest })
	t.Cleanup(func() { stop() })
	return stop
}

func (e *estate) backends(t *testing.T) (n int) {
	if err := e.env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE usename = ANY ($1)`, e.users).Scan(&n); err != nil {
		t.Errorf("counting backends: %v", err)
	}
	return n
}

// published is what living processes have published of places in all.
func (e *estate) published(t *testing.T) (n int) {
	require.NoError(t, e.env.Pool.QueryRow(context.Background(), `
SELECT coalesce(sum(greatest((s.value->>'conns')::int, (s.value->>'jobs')::int)), 0)
FROM headgate.hands, jsonb_each(hand->'servers') s`).Scan(&n))
	return n
}

func (e *estate) succeeded(t *testing.T) (n int) {
	require.NoError(t, e.env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM headgate.outcomes WHERE state = 'succeeded'`).Scan(&n))
	return n
}

func nothing(context.Context, pgx.Tx, *jobs.Job[Visit]) error { return nil }

// Where the budget has room for a connection to each database, jobs find one: a
// process keeps more than it has jobs running.
func TestABudgetIsUsed(t *testing.T) {
	t.Parallel()
	const databases, budget, n = 40, 80, 2000
	e := newEstate(t, databases, budget)
	stop := e.watch(t)
	w := e.work(t, "default", 30, nothing)
	began := time.Now()
	e.enqueue(t, n, "")
	require.Eventually(t, func() bool { return e.succeeded(t) == n }, 3*time.Minute, 20*time.Millisecond)
	top, made, idle := stop(), w.Connects(e.server), int64(time.Since(began)/(4*time.Second))
	t.Logf("%d jobs of %d databases: %d sessions, at most %d at once of a budget of %d", n, databases, made, top, budget)
	require.LessOrEqual(t, made, 200+databases*idle, "a connection that idles for 4 s ends, and is made again on a slow machine")
	require.LessOrEqual(t, top, budget)
	began = time.Now()
	require.Eventually(t, func() bool { return e.backends(t) == 0 && e.published(t) == 0 }, 30*time.Second, 20*time.Millisecond, "it is idle and gives back")
	t.Logf("given back after %s", time.Since(began).Round(time.Millisecond))
}

// A process that starts beside one that keeps the whole budget warm gets its part,
// for jobs of its own queue, and nothing is exceeded meanwhile.
func TestANewcomerGetsItsPart(t *testing.T) {
	t.Parallel()
	const databases, budget = 20, 20
	e := newEstate(t, databases, budget)
	stop := e.watch(t)
	e.work(t, "first", 15, nothing)
	enqueued := 0
	busy := func() bool { // the first has work, however long the steps below take
		if enqueued-e.succeeded(t) < 1000 {
			e.enqueue(t, 1000, "first")
			enqueued += 1000
		}
		return true
	}
	require.Eventually(t, func() bool { return busy() && e.backends(t) >= budget-1 }, 3*time.Minute, time.Millisecond, "the budget is used")
	var running, most atomic.Int64
	goOn := make(chan struct{})
	began := time.Now()
	e.work(t, "second", 15, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[Visit]) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return nil
	})
	e.enqueue(t, 30, "second")
	require.Eventually(t, func() bool { return busy() && running.Load() == budget/2 }, 3*time.Minute, time.Millisecond, "its part")
	t.Logf("%d connections after %s", budget/2, time.Since(began).Round(time.Millisecond))
	before := e.succeeded(t)
	require.Eventually(t, func() bool { return busy() && e.succeeded(t) > before+50 }, 3*time.Minute, time.Millisecond, "the first goes on")
	require.EqualValues(t, budget/2, most.Load(), "its part, no more")
	close(goOn)
	require.Eventually(t, func() bool { return e.succeeded(t) == enqueued+30 }, 3*time.Minute, 20*time.Millisecond)
	require.LessOrEqual(t, stop(), budget)
}

// Where there is less than a connection a process, or one for all, each still comes
// to it, whatever queue it works.
func TestABudgetSmallerThanTheProcesses(t *testing.T) {
	t.Parallel()
	for _, budget := range []int{1, 2} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, 3, budget)
			stop := e.watch(t)
			const each = 60
			for _, queue := range []string{"one", "two", "three"} {
				e.work(t, queue, 3, nothing)
			}
			for _, queue := range []string{"one", "two", "three"} {
				e.enqueue(t, each, queue)
			}
			began := time.Now()
			require.Eventually(t, func() bool { return e.succeeded(t) == 3*each }, 5*time.Minute, 20*time.Millisecond)
			t.Logf("%d jobs in %s", 3*each, time.Since(began).Round(time.Millisecond))
			require.LessOrEqual(t, stop(), budget)
		})
	}
}

// Jobs that need no connection use none of a budget that is used up, also where they
// wait behind jobs of the same tenant that need one.
func TestNoConnUsesNoneOfTheBudget(t *testing.T) {
	t.Parallel()
	e := newEstate(t, 1, 1)
	goOn, pinged, visiting := make(chan struct{}), make(chan struct{}, 10), make(chan struct{}, 10)
	e.work(t, "default", 5, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[Visit]) error {
		visiting <- struct{}{}
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return nil
	}, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[Ping]) error {
			pinged <- struct{}{}
			return nil
		})
	})
	e.enqueue(t, 5, "")
	receive(t, visiting)
	for range 5 {
		_, err := e.env.Client.Enqueue(context.Background(), e.slugs[0], Ping{}, nil)
		require.NoError(t, err)
		receive(t, pinged)
	}
	require.Empty(t, visiting, "the second visit waits")
	close(goOn)
	require.Eventually(t, func() bool { return e.succeeded(t) == 10 }, 30*time.Second, 10*time.Millisecond)
}

// Sit is a kind that holds its connection and sends nothing for a while.
type Sit struct{}

func (Sit) Kind() string { return "sit" }

// KindOpts says that it may run twice.
func (Sit) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Idempotent} }

// A handler may leave its connection idle, outside a transaction, for longer than
// the server lets a connection without work be.
func TestAHandlersConnectionMayIdle(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{On: jobstest.Direct(t)})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	cfg.JobTimeout = 2 * time.Minute
	cfg.Tenants.IdleTimeout, cfg.Tenants.SessionTimeout = 200*time.Millisecond, 300*time.Millisecond
	worked := make(chan string, 2)
	env.Work(&cfg, func(w *worker.Worker) {
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, _ *jobs.Job[Sit]) error {
			for idle := false; !idle; {
				err := env.Pool.QueryRow(ctx, `SELECT now() - state_change > '1 second' FROM pg_stat_activity WHERE pid = $1`, int(conn.PgConn().PID())).Scan(&idle)
				if err != nil {
					return fmt.Errorf("looking at the session: %w", err)
				}
			}
			var timeout string
			err := conn.QueryRow(ctx, `SELECT current_setting('idle_session_timeout')`).Scan(&timeout)
			worked <- timeout
			return err
		})
		worker.InTx(w, nothing)
	})
	for range 2 {
		require.Equal(t, jobs.Succeeded, env.Run("acme", Visit{}).State) // and its connection is the next one's
		require.Equal(t, jobs.Succeeded, env.Run("acme", Sit{}).State)
		require.Equal(t, "130s", receive(t, worked), "its job's time, and 10 seconds")
	}
	require.Eventually(t, func() bool {
		var n int
		err := env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, db.Job.User).Scan(&n)
		return err == nil && n == 0
	}, 10*time.Second, 10*time.Millisecond)
}

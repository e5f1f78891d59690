//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// Hundreds of databases on three servers are worked by three workers, then by
// twelve: no server ever has more connections than its budget, and two on the
// way out, over all workers, idle ones included; and the budget is used.
func TestFaultsBudgetsOfAFleet(t *testing.T) {
	t.Parallel()
	databases, each := 500, 12
	if testing.Short() {
		databases, each = 24, 20
	}
	ctx := context.Background()
	env := jobstest.New(t)
	budgets := []int{10, 20, 40}
	var servers [3]*localpg.Server
	var users [3][]string
	var slugs []string
	for i := range servers {
		servers[i] = startPostgres(t, localpg.Config{MaxConnections: 120})
	}
	for d := range databases {
		i := d % 3
		on := &jobstest.Postgres{Name: fmt.Sprintf("server-%d", i), URL: servers[i].URL}
		name := fmt.Sprintf("d%d", d)
		db := env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", Schema: touched, On: on})
		slugs = append(slugs, env.Tenant(name, name).Slug)
		users[i] = append(users[i], db.Job.User)
		if d < 3 {
			_, err := env.Catalog.SetServer(ctx, on.Name, catalog.ServerChange{Budget: new(budgets[i])})
			require.NoError(t, err)
		}
	}
	for _, workers := range []int{3, 12} {
		var running []*worker.Worker
		for range workers {
			cfg := beatEvery(env.Config(), quickBeat)
			cfg.Queues, cfg.Logger = map[string]int{"default": 120 / workers}, quietLogger()
			cfg.Tenants.MaxConns = 100
			pool, err := pgxpool.New(ctx, env.URL) // one process's own
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			cfg.Pool = pool
			running = append(running, env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, touch) }))
		}
		var params []jobs.EnqueueParams
		for n := range databases * each {
			params = append(params, jobs.EnqueueParams{Tenant: slugs[n%databases], Args: Touch{Bytes: 100, MS: 10}})
		}
		over, stop := context.WithCancel(ctx)
		var tops [3]int
		var watching sync.WaitGroup
		for i := range servers {
			watching.Go(func() { tops[i] = mostBackends(over, servers[i].URL(""), users[i]) })
		}
		began := time.Now()
		_, err := env.Client.EnqueueMany(ctx, params)
		require.NoError(t, err)
		newFlow(env).settle(t, slugs, 10*time.Minute)
		took := time.Since(began)
		stop()
		watching.Wait()
		t.Logf("%d databases, %d workers: %d jobs in %s; at most %v connections of %v", databases, workers, len(params), took.Round(time.Millisecond), tops, budgets)
		for i, top := range tops {
			require.LessOrEqual(t, top, budgets[i]+2, "server %d", i)
			require.GreaterOrEqual(t, top, min(budgets[i]/2, databases/6), "server %d: its budget was not used, so nothing is proven", i)
		}
		for _, w := range running {
			require.NoError(t, w.Stop(ctx))
		}
	}
	var all, succeeded, first int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE attempt = 1) FROM headgate.outcomes`).Scan(&all, &succeeded, &first))
	require.Equal(t, 2*databases*each, succeeded)
	require.Equal(t, all, first, "an attempt was used")
}

// The busiest of three worker processes is killed, again and again, with a hundred jobs
// running: nothing is lost or doubled, and meanwhile no limit is exceeded, of a
// tenant or of the server, by what the server itself sees running.
func TestFaultsLimitsUnderKills(t *testing.T) {
	t.Parallel()
	kills, budget := 10, 100
	if testing.Short() {
		kills, budget = 2, 30
	}
	const most = 3 // of the limited tenant
	ctx := context.Background()
	env := jobstest.New(t)
	server := startPostgres(t, localpg.Config{MaxConnections: 3 * budget})
	on := &jobstest.Postgres{Name: "melting", URL: server.URL}
	var slugs []string
	var databases []*jobstest.Database
	for d := range 6 {
		db := env.Database(fmt.Sprintf("m%d", d), jobstest.DatabaseOpts{Kind: map[bool]string{true: "dedicated", false: "shared"}[d == 0], Schema: schema, On: on})
		databases = append(databases, db)
		for n := range map[bool]int{true: 1, false: 4}[d == 0] {
			tenant := env.Tenant(fmt.Sprintf("m%d-%d", d, n), db.Name)
			open(t, db, tenant.OrgID, 10)
			slugs = append(slugs, tenant.Slug)
		}
	}
	_, err := env.Catalog.SetServer(ctx, on.Name, catalog.ServerChange{Budget: new(budget)})
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, $1 FROM headgate.tenants WHERE slug = $2`, most, slugs[0])
	require.NoError(t, err)

	slots := fmt.Sprintf("%s=%d", envVictimSlots, budget/2)
	victims := make([]*victim, 3)
	for i := range victims {
		victims[i] = newVictim(t, env, fmt.Sprintf("melting-%d", i), quickBeat, slots)
	}
	over, stop := context.WithCancel(ctx)
	seen := make(chan [2]int, 1)
	go func() { seen <- mostAsleep(over, server.URL(""), databases[0].Job.Database) }()
	enqueued, inFlight := 0, []int{}
	fill := func(n int) {
		var params []jobs.EnqueueParams
		for range n {
			// Some 40 a second, which two cores can do; the limited tenant's are shorter, or
			// they would be the last for minutes.
			tenant, ms := slugs[enqueued%len(slugs)], (500+enqueued*37%500)*budget/30
			if enqueued%6 == 0 || tenant == slugs[0] {
				tenant, ms = slugs[0], ms*30/budget
			}
			params = append(params, jobs.EnqueueParams{Tenant: tenant, Opts: enqueueTo(victimQueue),
				Args: SlowTransfer{Transfer: upward(enqueued), MS: ms}})
			enqueued++
		}
		_, err := env.Client.EnqueueMany(ctx, params)
		require.NoError(t, err)
	}
	for kill := range kills {
		fill(2 * budget)
		i, running := 0, 0 // in workers that live; what the dead had in hand goes on in the server for a while
		for over := time.Now().Add(time.Minute); running < budget*8/10; <-time.After(20 * time.Millisecond) {
			require.True(t, time.Now().Before(over), "%d are at work", running)
			running = 0
			most := 0
			for n, v := range victims {
				has := v.inHand(t, env)
				if running += has; has > most {
					i, most = n, has
				}
			}
		}
		inFlight = append(inFlight, victims[i].kill(t, env))
		victims[i] = newVictim(t, env, fmt.Sprintf("melting-%d", len(victims)+kill), quickBeat, slots)
	}
	newFlow(env).settle(t, slugs, 5*time.Minute)
	stop()
	top := <-seen
	done, distinct := 0, 0
	for _, db := range databases {
		var rows, uids int
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*), count(DISTINCT job_uid) FROM transfers`).Scan(&rows, &uids))
		done, distinct = done+rows, distinct+uids
	}
	var used int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.outcomes WHERE attempt > 1`).Scan(&used))
	t.Logf("%d SIGKILLs, with %v jobs in hand; %d jobs, %d effects, %d distinct; at most %d jobs of the budget's %d at work, and %d of the tenant's %d; %d attempts used",
		kills, inFlight, enqueued, done, distinct, top[0], budget, top[1], most, used)
	t.Logf("jobs that did not succeed: %s", unsuccessful(t, env))
	require.Equal(t, enqueued, distinct, "jobs were lost")
	require.Equal(t, done, distinct, "jobs were doubled")
	require.Zero(t, used)
	require.LessOrEqual(t, top[0], budget)
	require.LessOrEqual(t, top[1], most)
	require.Equal(t, most, top[1], "the tenant's limit was not reached")
	require.Positive(t, slices.Min(inFlight), "a process was killed that did nothing")
}

// unsuccessful are the jobs that have not succeeded, with their history and what is
// held against them.
func unsuccessful(t *testing.T, env *jobstest.Env) (list string) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT coalesce(string_agg(format('job %s, %s, attempt %s: %s, suspect %s', j.id, j.state, j.attempt,
    (SELECT json_agg(o.* ORDER BY o.started_at) FROM headgate.outcomes o WHERE o.job_id = j.id),
    (SELECT to_json(s) FROM headgate.suspects s WHERE s.job_id = j.id)), E'\n'), 'none')
FROM river_job j WHERE j.state <> 'completed'`).Scan(&list))
	return list
}

// mostAsleep counts every 20 ms who is asleep in a job, on the whole server and in
// one database, until ctx ends.
func mostAsleep(ctx context.Context, url, database string) (most [2]int) {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return [2]int{1 << 20, 1 << 20} // whoever asked will notice
	}
	defer func() { _ = conn.Close(context.Background()) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var all, one int
		if err := conn.QueryRow(context.Background(), `SELECT count(*), count(*) FILTER (WHERE datname = $1) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`, database).Scan(&all, &one); err != nil {
			return [2]int{1 << 20, 1 << 20}
		}
		most = [2]int{max(most[0], all), max(most[1], one)}
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
		}
	}
}

// told counts the lines of workers' logs that speak of an event.
type told struct {
	mu    sync.Mutex
	lines map[string]int
}

func (l *told) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range []string{"server does not answer", "server answers again"} {
		if strings.Contains(string(line), `"event":"`+event+`"`) {
			l.lines[event]++
		}
	}
	return len(line), nil
}

package claim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// limited is one run of processes under limits of every sort, each with one queue
// or, claiming for both at once, two, and what it found exceeded.
func limited(t *testing.T, processes, queues int, apart bool) (exceeded []string) {
	f := newFleet(t, 30, 3)
	f.exec(`UPDATE headgate.servers SET connection_budget = CASE name WHEN 's1' THEN 4 WHEN 's2' THEN 2 ELSE 8 END`)
	f.exec(`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 3 FROM headgate.tenants WHERE org_id IN (2, 5)`)
	f.exec(`INSERT INTO headgate.kind_limits VALUES ('b', 5, 1)`)
	f.exec(`INSERT INTO headgate.queue_limits VALUES ('default', 12)`)
	const each = 120
	f.exec(addJobs, each, "a", 1, 30)
	f.exec(addJobs, each, "b", 1, 30)
	if queues == 2 {
		f.exec(`UPDATE river_job SET queue = 'bulk' WHERE id % 2 = 0`)
	}
	total := 2 * each
	if apart { // claims that do not take turns write over each other's cursors, and may lose sight of rows
		total = each * 3 / 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stuck := time.AfterFunc(time.Minute, cancel) // nobody has claimed a job for that long
	defer stuck.Stop()
	length := func(*rivertype.JobRow) time.Duration {
		stuck.Reset(time.Minute)
		return time.Duration(1+rand.N(12)) * time.Millisecond
	}
	if !apart {
		f.reaches("kind b", 5)
	}
	if !apart && queues == 1 {
		f.reaches("queue default", 12)
	}
	var all sync.WaitGroup
	for i := range processes {
		p := f.process(8, "a", "b")
		if apart {
			p.apart = true
			claim.LockApart(p.lease, int32(i+1))
		}
		work := func(p *process) func() {
			return func() { p.work(ctx, total, length) }
		}
		all.Go(work(p))
		if queues == 2 {
			all.Go(work(p.beside("bulk")))
		}
	}
	start := time.Now()
	all.Wait()
	t.Logf("%d processes of %d queues, apart %v: %s, most at once %d", processes, queues, apart, time.Since(start), f.most["all"])
	require.GreaterOrEqual(t, f.finished(), total, "not all jobs were done: no job was claimed for a minute")
	check := func(what string, limit int) {
		if f.most[what] > limit {
			exceeded = append(exceeded, fmt.Sprintf("%s: %d of %d", what, f.most[what], limit))
		}
	}
	require.Empty(t, f.reached, "limits that were never reached")
	check("queue default", 12)
	check("server s1", 4)
	check("server s2", 2)
	check("server s3", 8)
	check("kind b", 5)
	for n := range 30 {
		tenant := f.tenant(n + 1)
		check("kind b of "+tenant, 1)
		if n == 1 || n == 4 {
			check("tenant "+tenant, 3)
		}
	}
	return exceeded
}

// Limits of tenants, kinds, servers and the queue hold over all processes, by the
// overlap of the jobs that run. Without the lock the same test sees them exceeded.
func TestLimitsAreExact(t *testing.T) {
	t.Parallel()
	for _, processes := range []int{3, 8} {
		require.Empty(t, limited(t, processes, 1, false), "%d processes", processes)
	}
	require.Empty(t, limited(t, 3, 2, false), "3 processes of two queues")
	var exceeded []string
	for range 5 {
		if exceeded = limited(t, 8, 1, true); len(exceeded) > 0 {
			break
		}
	}
	require.NotEmpty(t, exceeded, "the control without the lock exceeds nothing, so this test proves nothing")
	t.Logf("without the lock: %v", exceeded)
}

// While tens of thousands of jobs wait, a limit that is lowered, a pause, its end
// and a limit that is raised hold from the next claim on: they are rows of their
// own, whatever the backlog.
func TestLimitsAreLive(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.exec(addJobs, 50_000, "a", 1, 1)
	f.exec(addJobs, 200, "a", 2, 2)
	p := f.process(60, "a")
	ctx := context.Background()
	greedy, other := f.tenant(1), f.tenant(2)
	of := func(jobs []*rivertype.JobRow, tenant string) (n int) {
		for _, job := range jobs {
			if tenantOf(job) == tenant {
				n++
			}
		}
		return n
	}
	set := func(sql string, args ...any) { // which reads no job
		tx, err := f.pool.Begin(ctx)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(ctx) }()
		scans := func() (n int) { // since the session reported last
			require.NoError(t, tx.QueryRow(ctx, `SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables WHERE relid = 'river_job'::regclass`).Scan(&n))
			return n
		}
		before := scans()
		_, err = tx.Exec(ctx, sql, args...)
		require.NoError(t, err)
		require.Equal(t, before, scans(), sql)
		require.NoError(t, tx.Commit(ctx))
	}
	round := func() (int, int) {
		jobs := p.claim(ctx, 60)
		p.finish(jobs...)
		return of(jobs, greedy), of(jobs, other)
	}
	set(`INSERT INTO headgate.tenant_limits (tenant_id, max_running) VALUES ($1, 50)`, greedy)
	a, b := round()
	require.LessOrEqual(t, a, 50)
	require.Equal(t, 60, a+b, "the slots are used")
	set(`UPDATE headgate.tenant_limits SET max_running = 2`)
	a, b = round()
	require.Equal(t, 2, a)
	require.Equal(t, 58, b)
	set(`INSERT INTO headgate.pauses (scope, target, paused_by) VALUES ('tenant', $1, 'ines')`, greedy)
	a, b = round()
	require.Zero(t, a)
	require.Positive(t, b)
	set(`INSERT INTO headgate.pauses (scope, target, paused_by) VALUES ('kind', 'a', 'ines')`)
	a, b = round()
	require.Zero(t, a+b)
	set(`DELETE FROM headgate.pauses`)
	set(`UPDATE headgate.tenant_limits SET max_running = 40`)
	a, _ = round()
	require.Positive(t, a)
	set(`INSERT INTO headgate.pauses (scope, target, paused_by) VALUES ('queue', 'default', 'ines')`)
	a, b = round()
	require.Zero(t, a+b)
	set(`UPDATE headgate.pauses SET until = now()`)
	a, _ = round()
	require.Positive(t, a, "the pause is over by itself")
	set(`UPDATE headgate.tenants SET status = 'suspended' WHERE id = $1`, greedy)
	a, _ = round()
	require.Zero(t, a)
	set(`UPDATE headgate.tenants SET status = 'active' WHERE id = $1`, greedy)
	a, _ = round()
	require.Positive(t, a)
	set(`UPDATE headgate.servers SET state = 'down'`)
	a, b = round()
	require.Zero(t, a+b)
	set(`UPDATE headgate.servers SET state = 'open', connection_budget = 7`)
	a, b = round()
	require.Equal(t, 7, a+b)
	set(`INSERT INTO headgate.breakers (scope, id, until) SELECT 'server', id, now() + '1 hour' FROM headgate.servers`)
	a, b = round()
	require.Zero(t, a+b)
	set(`UPDATE headgate.breakers SET until = now()`)
	a, b = round()
	require.Equal(t, 1, a+b, "one may try")
	set(`DELETE FROM headgate.breakers`)
	set(`UPDATE headgate.servers SET connection_budget = 1000`)
	set(`DELETE FROM headgate.tenant_limits`)
	set(`INSERT INTO headgate.plan_limits (plan, max_running) VALUES ('', 5)`)
	a, b = round()
	require.LessOrEqual(t, a, 5, "the plan's default")
	require.LessOrEqual(t, b, 5)
	set(`UPDATE headgate.plan_limits SET max_running = NULL, rate = 3, rate_period = '1 hour'`)
	a, b = round()
	require.LessOrEqual(t, a, 3, "three an hour")
	require.LessOrEqual(t, b, 3)
	a, b = round()
	require.Zero(t, a+b, "the tokens are spent")
	set(`DELETE FROM headgate.plan_limits`)
	a, b = round()
	require.Equal(t, 60, a+b)
}

// Somebody's open transaction on the rows that people write keeps no claim
// waiting, nor do the wake-ups of an application that has not committed yet.
func TestClaimsDoNotWaitForPeople(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.exec(addJobs, 10, "a", 1, 2)
	p := f.process(10, "a")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tx, err := f.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	for _, sql := range []string{
		`UPDATE headgate.tenants SET status = 'suspended'`,
		`INSERT INTO headgate.pauses (scope, target) VALUES ('kind', 'a')`,
		`UPDATE headgate.servers SET connection_budget = 1`,
		`SELECT FROM river_job ORDER BY id LIMIT 1 FOR UPDATE`,
	} {
		_, err := tx.Exec(ctx, sql)
		require.NoError(t, err)
	}
	_, err = tx.Exec(ctx, addJobs, 5, "a", 1, 2)
	require.NoError(t, err)
	require.Len(t, p.claim(ctx, 20), 9, "all but the row that is locked")
	require.NoError(t, tx.Rollback(ctx))
	require.Len(t, p.claim(ctx, 20), 1, "the locked one was not forgotten")
}

// A thousand lanes behind a full server hide nobody and are not walked.
func TestAFullServerHidesNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1000, 2) // odd tenants on one server, even ones on the other
	f.exec(`UPDATE headgate.servers SET connection_budget = 5 WHERE name = 's2'`)
	f.exec(addJobs, 3000, "a", 1, 1000)
	p := f.process(50, "a")
	ctx := context.Background()
	var held []*rivertype.JobRow
	for len(held) < 5 {
		for _, job := range p.claim(ctx, 20) {
			if f.servers[tenantOf(job)] == "s2" {
				held = append(held, job)
			} else {
				p.finish(job)
			}
		}
	}
	for range 20 {
		jobs := p.claim(ctx, 20)
		require.Len(t, jobs, 20)
		for _, job := range jobs {
			require.Equal(t, "s1", f.servers[tenantOf(job)])
		}
		p.finish(jobs...)
	}
	p.finish(held...)
	back := 0
	for _, job := range p.claim(ctx, 20) {
		if f.servers[tenantOf(job)] == "s2" {
			back++
		}
	}
	require.Equal(t, 5, back, "those that were passed over are first now")
}

// Priority orders the jobs of one tenant, over its kinds, and not those of
// different tenants.
func TestPriorityWithinATenant(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.exec(addJobs, 20, "a", 1, 1)
	f.exec(addJobs, 20, "b", 1, 1)
	f.exec(`UPDATE river_job SET priority = CASE kind WHEN 'a' THEN 4 ELSE 2 END`)
	f.exec(addJobs, 20, "a", 2, 2)
	p := f.process(100, "a", "b")
	first := f.tenant(1)
	kinds := map[string]int{}
	others := 0
	for range 4 {
		for _, job := range p.claim(context.Background(), 4) {
			if tenantOf(job) == first {
				kinds[job.Kind]++
			} else {
				others++
			}
		}
	}
	require.Zero(t, kinds["a"], "jobs of priority 2 were there")
	require.Positive(t, kinds["b"])
	require.Positive(t, others)
}

// A lane that nobody woke is found by the sweep, with new rows or released.
func TestTheSweepFindsForgottenLanes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 1)
	p := f.process(10, "a")
	f.exec(`ALTER TABLE river_job DISABLE TRIGGER headgate_wake_inserted`)
	f.exec(addJobs, 3, "a", 1, 3)
	f.exec(`ALTER TABLE river_job ENABLE TRIGGER headgate_wake_inserted`)
	ctx := context.Background()
	require.Empty(t, p.claim(ctx, 10))
	keeper := claim.NewKeeper(claim.KeeperConfig{Pool: f.pool, Lease: p.lease, Worker: "w"})
	found, err := claim.SweepLanes(keeper, ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3, found)
	require.Len(t, p.claim(ctx, 10), 3)
	found, err = claim.SweepLanes(keeper, ctx)
	require.NoError(t, err)
	require.Zero(t, found)

	f.exec(addJobs, 30, "a", 1, 3)
	p.finish(p.claim(ctx, 5)...)
	f.exec(`ALTER TABLE river_job DISABLE TRIGGER headgate_wake_inserted`)
	f.exec(addOne, 1, "a", 1, -60)
	f.exec(addOne, 2, "a", 4, 0)
	f.exec(`ALTER TABLE river_job ENABLE TRIGGER headgate_wake_inserted`)
	require.Len(t, p.claim(ctx, 50), 25, "lanes that are awake hide what came to them below their floors")
	found, err = claim.SweepLanes(keeper, ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, found)
	require.Len(t, p.claim(ctx, 50), 2)

	f.exec(`UPDATE headgate.tenants SET status = 'suspended'`)
	f.exec(addJobs, 3, "a", 1, 3)
	require.Empty(t, p.claim(ctx, 10))
	found, err = claim.SweepLanes(keeper, ctx)
	require.NoError(t, err)
	require.Zero(t, found, "they are held")
	f.exec(`ALTER TABLE headgate.tenants DISABLE TRIGGER lanes_tenant`)
	f.exec(`UPDATE headgate.tenants SET status = 'active'`)
	require.Empty(t, p.claim(ctx, 10))
	found, err = claim.SweepLanes(keeper, ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3, found)
	require.Len(t, p.claim(ctx, 10), 3)
}

// Behind the breaker of a shared database hundreds of tenants may wait, all before
// another database's in the order of service: they hide nobody, and after the
// first claim that met them nobody looks at them.
func TestABrokenDatabaseHidesNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 401, 1)
	f.exec(`UPDATE headgate.tenants SET database_id = (SELECT id FROM headgate.databases WHERE name = 'd1') WHERE slug <> 't401'`)
	f.exec(addJobs, 800, "a", 1, 400)
	f.exec(addJobs, 20, "a", 401, 401)
	p := f.process(10, "a")
	ctx := context.Background()
	f.exec(`INSERT INTO headgate.breakers (scope, id, until, class) SELECT 'database', id, now() + '1 hour', 'disk_full' FROM headgate.databases WHERE name = 'd1'`)
	well := f.tenant(401)
	for range 2 {
		all := p.claim(ctx, 10)
		require.Len(t, all, 10)
		for _, job := range all {
			require.Equal(t, well, tenantOf(job))
		}
		require.LessOrEqual(t, p.lease.Stats().Snapshots, 2)
		p.finish(all...)
	}
	f.exec(`UPDATE headgate.breakers SET until = now()`)
	all := p.claim(ctx, 10)
	require.Len(t, all, 1, "one may try")
	require.Empty(t, p.claim(ctx, 10))
	p.finish(all...)
	f.exec(`DELETE FROM headgate.breakers`)
	require.Len(t, p.claim(ctx, 10), 10)
}

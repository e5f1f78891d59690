package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

const (
	probeEvery = 20 * time.Millisecond // between two jobs of the free queue, and two due schedules
	probeQueue = "probes"
	probes     = 1_000_000              // the first number of its jobs
	backlogJob = 100 * time.Millisecond // how long a job of the backlog takes
)

// delayPairs measures how late the jobs of a queue with free slots begin and how late schedules fire
// while many tenants, each with jobs that wait, get another plan with other limits and
// weights; beside the same without the change.
func (c *bigCatalog) delayPairs(ctx context.Context) (all []comparison, err error) {
	for i, weight := range []float64{2, 3} {
		const set = `INSERT INTO headgate.plan_limits (plan, weight, max_running) VALUES ($1, $2, $3) ON CONFLICT (plan) DO UPDATE SET weight = excluded.weight, max_running = excluded.max_running`
		if _, err := c.bed.Pool.Exec(ctx, set, planOfDelays(i), weight, 10+i); err != nil {
			return nil, err
		}
	}
	with, without := *c.ours, *c.ours
	with.name, without.name = "with a change of plan", "without"
	with.tables += ", headgate.occurrences, headgate.schedules CASCADE"
	without.tables = with.tables
	ours, theirs := c.ours, c.theirs
	defer func() { c.ours, c.theirs = ours, theirs }()
	c.ours, c.theirs = &with, &without
	n := min(c.opts.changed, c.tenants)
	c.tell("delays beside a change of plan")
	var claims, fires, took []pair
	for i := range c.opts.pairs {
		var claimed, fired pair
		var change half
		for _, who := range []*side{&with, &without} {
			if err := c.fresh(ctx, who); err != nil {
				return nil, err
			}
			d, err := c.delays(ctx, n, who == &with, planOfDelays(i%2))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", who.name, err)
			}
			if who == &with {
				claimed.ours, fired.ours, change = d.claims, d.fires, d.change
			} else {
				claimed.theirs, fired.theirs = d.claims, d.fires
			}
		}
		claims, fires, took = append(claims, claimed), append(fires, fired), append(took, pair{change, change})
	}
	beside := fmt.Sprintf("beside a change of the plan of %d tenants, against none", n)
	for name, of := range map[string]func(half) float64{"p50": p50, "p99": p99, "the longest": slowest} {
		all = append(all, compare(measure{"until a job of a free queue begins, " + name + ", " + beside, inMillis, of}, claims),
			compare(measure{"how late schedules fire, " + name + ", " + beside, inMillis, of}, fires))
	}
	slices.SortFunc(all, func(a, b comparison) int { return strings.Compare(a.What, b.What) })
	return append(all, compare(measure{"that change itself, against itself", inMillis, slowest}, took)), nil
}

func planOfDelays(i int) string { return fmt.Sprintf("delays-%d", i) }

// delayed is what came of one run.
type delayed struct{ claims, fires, change half }

const schedulesDue = `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, args, cron, zone, next_nominal_at, next_run_at, answered_at)
SELECT gen_random_uuid(), t.id, 'bench-' || i, 'bench', '{"n": 0}', '0 3 * * *', 'UTC', d.at, d.at, d.at - interval '1 day'
FROM generate_series(1, $1::int) AS i
CROSS JOIN LATERAL (SELECT clock_timestamp() + interval '1 second' + i * $2::interval AS at) d
JOIN headgate.tenants t ON t.slug = 'tenant-' || (i % 200 + 1)`

// firedLate are how late schedules that have fired did.
const firedLate = `
SELECT extract(epoch FROM o.decided_at - o.effective_at)::float8 FROM headgate.occurrences o WHERE o.outcome = 'fired'`

const schedulesLeft = `SELECT count(*) FROM headgate.schedules WHERE name LIKE 'bench-%' AND next_run_at <= now()`

// delays is one run: a backlog of the tenants, a worker, a scheduler, probes; and the change.
func (c *bigCatalog) delays(ctx context.Context, n int, changing bool, plan string) (d delayed, err error) {
	client, err := orchestrator.New(orchestrator.Config{Pool: c.bed.Pool, Catalog: c.bed.Catalog, Logger: c.warnings()})
	if err != nil {
		return d, err
	}
	if err := c.backlog(ctx, client, n); err != nil {
		return d, err
	}
	p := &probing{sent: map[int]time.Time{}}
	runner, err := c.worker(p)
	if err != nil {
		return d, err
	}
	if err := runner.Start(ctx); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, runner.Stop(context.WithoutCancel(ctx))) }()
	list, err := c.schedulers(c.bed.Pool, 1)
	if err != nil {
		return d, err
	}
	lasts := max(2*c.opts.half(), time.Second)
	if _, err := c.bed.Pool.Exec(ctx, schedulesDue, int(lasts/probeEvery), probeEvery); err != nil {
		return d, err
	}
	if err := list[0].Start(ctx); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, list[0].Stop(context.WithoutCancel(ctx))) }()
	watch := c.start()
	group, inner := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	group.Go(func() error { return p.send(inner, client, lasts, ended) })
	group.Go(func() (err error) {
		defer close(ended)
		if changing {
			d.change, err = c.changePlan(inner, n, plan, lasts/4)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return d, err
	}
	if err := c.allFired(ctx); err != nil {
		return d, err
	}
	d.claims = watch.stop(p.count())
	d.fires = d.claims
	if d.claims.latencies, err = p.wait(ctx); err != nil {
		return d, err
	}
	d.fires.latencies, err = c.latenciesOf(ctx, firedLate)
	return d, err
}

// worker is one that serves the backlog's queue and the probes', which is never full. Claims of
// all queues take turns, so a probe waits for every claim that takes long.
func (c *bigCatalog) worker(p *probing) (*worker.Worker, error) {
	runner, err := worker.New(worker.Config{
		Pool: c.workers, CentralConns: centralConns, Resolver: c.resolver, Queues: map[string]int{"default": c.opts.slots, probeQueue: 20},
		Tenants: tenantdb.Config{MaxConns: c.layout.conns * c.layout.databases}, FetchCooldown: tuned, Logger: c.warnings(),
	})
	if err == nil {
		worker.NoConn(runner, func(_ context.Context, job *jobs.Job[jobArgs]) error { p.begun(job.Args.N); return nil })
	}
	return runner, err
}

// backlog is two jobs of each of the tenants.
func (c *bigCatalog) backlog(ctx context.Context, client *orchestrator.Client, n int) error {
	for from := 1; from <= n; from += 5000 {
		var params []jobs.EnqueueParams
		for i := from; i < min(from+5000, n+1); i++ {
			for range 2 {
				params = append(params, jobs.EnqueueParams{Tenant: importedSlug(i), Args: jobArgs{N: i}})
			}
		}
		if _, err := client.EnqueueMany(ctx, params); err != nil {
			return err
		}
	}
	_, err := c.bed.Pool.Exec(ctx, `ANALYZE river_job`)
	return err
}

// changePlan gives the tenants a plan, as `headgate tenant set` does.
func (c *bigCatalog) changePlan(ctx context.Context, n int, plan string, after time.Duration) (h half, err error) {
	select {
	case <-ctx.Done():
		return h, context.Cause(ctx)
	case <-time.After(after):
	}
	slugs := make([]string, n)
	for i := range slugs {
		slugs[i] = importedSlug(i + 1)
	}
	began := time.Now()
	_, err = c.bed.Catalog.Editor().Change(ctx, slugs, catalog.TenantChange{Plan: &plan})
	return half{jobs: n, took: time.Since(began), cpu: cpuTime{time.Microsecond, time.Microsecond}, latencies: []time.Duration{time.Since(began)}}, err
}

// allFired waits until no schedule is due any more.
func (c *bigCatalog) allFired(ctx context.Context) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for left := 1; left > 0; {
		if err := c.bed.Pool.QueryRow(ctx, schedulesLeft).Scan(&left); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// probing are the jobs of the free queue: when they were sent, and how long each took to begin.
type probing struct {
	mu        sync.Mutex
	sent      map[int]time.Time
	latencies []time.Duration
}

func (p *probing) begun(n int) {
	if n < probes {
		if n > 0 {
			<-time.After(backlogJob)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latencies = append(p.latencies, time.Since(p.sent[n]))
}

func (p *probing) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent)
}

// send enqueues a probe at each interval, for so long, and as long again after the change has
// ended.
func (p *probing) send(ctx context.Context, client *orchestrator.Client, lasts time.Duration, ended <-chan struct{}) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	until := time.Now().Add(lasts)
	for i := probes; ; i++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			ended = nil
			until = later(until, time.Now().Add(lasts/2))
		case now := <-tick.C:
			if ended == nil && now.After(until) {
				return nil
			}
		}
		p.mu.Lock()
		p.sent[i] = time.Now()
		p.mu.Unlock()
		if _, err := client.Enqueue(ctx, "tenant-1", jobArgs{N: i}, &jobs.EnqueueOpts{Queue: probeQueue}); err != nil {
			return err
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wait waits for the last probe to begin.
func (p *probing) wait(ctx context.Context) ([]time.Duration, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for stuck := time.Now().Add(stuckAfter); ; {
		p.mu.Lock()
		if len(p.latencies) == len(p.sent) {
			defer p.mu.Unlock()
			return slices.Sorted(slices.Values(p.latencies)), nil
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
			if time.Now().After(stuck) {
				return nil, errStuck
			}
		}
	}
}

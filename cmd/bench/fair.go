package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// fairSlots is how many jobs each side runs at once: few enough that jobs of 5 ms
// leave the machine something, so that who waits, waits for its turn.
const fairSlots = 20

// fairJob is how long a neighbour's job takes.
const fairJob = 5 * time.Millisecond

// fair is ten thousand tenants, or a hundred and one where there is no time.
func fair(b options) layout {
	n := min(4, b.databases)
	l := layout{databases: n, tenantsEach: 2500, conns: fairSlots, slots: fairSlots}
	if b.half() < time.Second {
		l.tenantsEach = 104 / n
	}
	return l
}

// neighbours is what waits in the queue while a quiet tenant's jobs come.
type neighbours struct {
	says string
	jobs func(s *stage) []jobArgs
}

var allNeighbours = []neighbours{
	{"nobody else", func(*stage) []jobArgs { return nil }},
	{"beside one with a million jobs queued", func(s *stage) []jobArgs { return s.ofTenants(s.backlog(), 1, 1) }},
	{"beside 10,000 with jobs queued", func(s *stage) []jobArgs { return s.ofTenants(s.backlog()/4, 1, s.tenantCount()-1) }},
}

func (s *stage) tenantCount() int { return s.layout.databases * s.layout.tenantsEach }

// backlog is a million jobs, as long as that is no more than fits the time given.
func (s *stage) backlog() int { return max(400, min(1_000_000, int(400_000*s.opts.seconds))) }

// ofTenants are n jobs of tenants first to last, in turn.
func (s *stage) ofTenants(n, first, last int) []jobArgs {
	all := make([]jobArgs, n)
	for i := range all {
		all[i].N = first + i%(last-first+1) + i/(last-first+1)*s.tenantCount()
	}
	return all
}

// measureFair times a quiet tenant's jobs beside busy ones, and how worker time
// is shared. River alone serves in the order of arrival: a job that it has not
// begun when the measurement ends counts with the time that it had waited by then.
func measureFair(ctx context.Context, s *stage) (all []comparison, err error) {
	for _, gap := range []time.Duration{50 * time.Millisecond, 2 * time.Second} {
		for _, n := range allNeighbours {
			what := fmt.Sprintf("a tenant with a job every %s, %s", gap, n.says)
			s.tell(what)
			pairs, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) { return s.quietTenant(ctx, who, gap, n.jobs(s)) })
			if err != nil {
				return nil, err
			}
			for _, q := range []struct {
				says string
				q    float64
			}{{"p50", 0.5}, {"p99", 0.99}} {
				c := compare(measure{what + ", " + q.says, inMillis, func(h half) float64 { return h.quantile(q.q) }}, pairs)
				ours, theirs := pooled(pairs)
				c.Ours, c.Theirs = rounded(ours.quantile(q.q)), rounded(theirs.quantile(q.q))
				all = append(all, c)
			}
		}
	}
	shares, err := s.measureShares(ctx)
	return append(all, shares...), err
}

// load enqueues a backlog in transactions of its own, and analyzes the queue. The
// checkpoint also leaves the server log files to write to: one that must be made in
// the middle of a measurement holds up a commit for 25 to 55 ms.
func (s *stage) load(ctx context.Context, who *side, all []jobArgs) error {
	for part := range slices.Chunk(all, 10_000) {
		if err := pgx.BeginFunc(ctx, who.pool, func(tx pgx.Tx) error { return who.many(ctx, tx, part) }); err != nil {
			return err
		}
	}
	if _, err := who.pool.Exec(ctx, `ANALYZE river_job`); err != nil {
		return err
	}
	return s.checkpoint(ctx)
}

// quietTenant sends jobs of tenant 0 at their times to a worker that has a backlog
// of others' to do, and is at it.
func (s *stage) quietTenant(ctx context.Context, who *side, gap time.Duration, backlog []jobArgs) (h half, err error) {
	every := s.tenantCount()
	times := arrivals{gap: gap}.times(max(s.opts.half(), gap))
	var mu sync.Mutex
	sent, waited := make([]time.Time, len(times)), make([]time.Duration, len(times))
	begun, underWay := newTally(len(times)), newTally(4*fairSlots)
	if len(backlog) == 0 { // it warms up by itself
		for i := range 4 * fairSlots {
			backlog = append(backlog, jobArgs{N: (len(times) + i) * every})
		}
	}
	if err := s.load(ctx, who, backlog); err != nil {
		return h, err
	}
	one, err := who.one(tuned)
	if err != nil {
		return h, err
	}
	stop, err := who.work(ctx, workload{cooldown: tuned, begun: func(n int) {
		if n%every != 0 || n/every >= len(times) {
			<-time.After(fairJob)
			underWay.one()
			return
		}
		mu.Lock()
		waited[n/every] = time.Since(sent[n/every])
		mu.Unlock()
		begun.one()
	}})
	if err != nil {
		return h, err
	}
	if err := underWay.wait(ctx); err != nil {
		return h, errors.Join(err, stop(context.WithoutCancel(ctx)))
	}
	clock := s.start()
	err = send(ctx, times, func(ctx context.Context, i int) error {
		mu.Lock()
		sent[i] = time.Now()
		mu.Unlock()
		return one(ctx, jobArgs{N: i * every})
	})
	if err == nil {
		grace, cancel := context.WithTimeout(ctx, time.Second)
		_ = begun.wait(grace) // who has not begun by then is counted below
		cancel()
	}
	h = clock.stop(len(times))
	mu.Lock()
	for i := range waited {
		if waited[i] == 0 {
			waited[i] = time.Since(sent[i])
		}
		h.latencies = append(h.latencies, waited[i])
	}
	mu.Unlock()
	slices.Sort(h.latencies)
	if stopErr := stop(context.WithoutCancel(ctx)); err == nil {
		err = stopErr
	}
	return h, err
}

const (
	asIndex = "Jain's index, 1 is best"
	asShare = "share, 1 is best"
	asRatio = "ratio, as theirs is best"
)

// measureShares are three looks at who gets the worker's time.
func (s *stage) measureShares(ctx context.Context) (all []comparison, err error) {
	const crowd = 100
	share := func(received []float64, took time.Duration) float64 {
		return received[0] / (took.Seconds() * fairSlots)
	}
	for _, m := range []struct {
		what, unit string
		tenants    int
		length     func(tenant int) time.Duration
		weight     bool
		of         func(received []float64, took time.Duration) float64
	}{
		{"worker time of 100 tenants, one with jobs of ten times the length", asIndex, crowd, func(tenant int) time.Duration {
			if tenant == 7 {
				return 10 * fairJob
			}
			return fairJob
		}, false, func(received []float64, _ time.Duration) float64 { return jainIndex(received) }},
		{"worker time of a tenant of weight 3, to that of one of weight 1 (theirs knows no weights)", asRatio, 10, nil, true,
			func(received []float64, _ time.Duration) float64 {
				rest := 0.0
				for _, r := range received[1:] {
					rest += r / float64(len(received)-1)
				}
				return received[0] / rest
			}},
		{"slots that a lone tenant uses, jobs of 5 ms", asShare, 1, nil, false, share},
		{"slots that a lone tenant uses, jobs of 100 ms", asShare, 1, func(int) time.Duration { return 20 * fairJob }, false, share},
	} {
		s.tell(m.what)
		length := m.length
		if length == nil {
			length = func(int) time.Duration { return fairJob }
		}
		pairs, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) {
			return s.shares(ctx, who, m.tenants, m.weight, length, m.of)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, compare(measure{m.what, m.unit, func(h half) float64 { return h.value }}, pairs))
	}
	return all, nil
}

// shares lets a worker run for a while with more jobs of some tenants than it can
// do, and says what of the worker's time each received. It begins when the worker is
// at it, so that nobody's start counts.
func (s *stage) shares(ctx context.Context, who *side, tenants int, weight bool, length func(int) time.Duration, of func([]float64, time.Duration) float64) (h half, err error) {
	if weight && who == s.ours {
		undo, err := s.weigh(ctx)
		if err != nil {
			return h, err
		}
		defer func() { err = errors.Join(err, undo(context.WithoutCancel(ctx))) }()
	}
	n := max(60*tenants, int(1.2*float64(fairSlots)*s.opts.seconds/fairJob.Seconds())*4) + 2*fairSlots
	if err := s.load(ctx, who, s.ofTenants(n, 1, tenants)); err != nil {
		return h, err
	}
	received, underWay := newWorkerTime(tenants), newTally(2*fairSlots)
	measured := make(chan struct{}) // the clock runs
	begin := sync.OnceFunc(func() { close(measured) })
	stop, err := who.work(ctx, workload{cooldown: tuned, begun: func(n int) {
		tenant := n%s.tenantCount() - 1
		underWay.one()
		defer received.job(tenant)()
		select {
		case <-underWay.all:
			<-measured // or the backlog is done before a slow machine has started the clock
		default:
		}
		<-time.After(length(tenant))
	}})
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	defer begin()
	if err := underWay.wait(ctx); err != nil {
		return h, err
	}
	clock := s.start()
	from := time.Now()
	before, begunBefore := received.byNow()
	begin()
	timer, stuck := time.NewTimer(s.opts.half()), time.NewTimer(stuckAfter)
	defer timer.Stop()
	defer stuck.Stop()
	jobs := 0
	for enough := false; !enough; { // jobs, of the tenant that is asked about too, or there is nothing to compare
		select {
		case <-timer.C:
		case <-stuck.C:
			return h, errStuck
		case <-ctx.Done():
			return h, context.Cause(ctx)
		}
		after, begun := received.byNow()
		for i := range after {
			after[i] -= before[i]
		}
		h.value, jobs = of(after, time.Since(from)), begun-begunBefore
		enough = jobs >= 2*tenants && h.value > 0
		timer.Reset(fairJob)
	}
	value := h.value
	h = clock.stop(jobs)
	h.value = value
	return h, nil
}

// workerTime adds up how long jobs of each tenant were in their handlers, those
// that still are included: of long jobs, many are at either end of a measurement.
type workerTime struct {
	mu      sync.Mutex
	since   time.Time
	seconds []float64 // ends less beginnings, since then
	running []int
	begun   int
}

func newWorkerTime(tenants int) *workerTime {
	return &workerTime{since: time.Now(), seconds: make([]float64, tenants), running: make([]int, tenants)}
}

// job counts a job from now until what it returns is called.
func (w *workerTime) job(tenant int) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	w.running[tenant]++
	w.seconds[tenant] -= time.Since(w.since).Seconds()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running[tenant]--
		w.seconds[tenant] += time.Since(w.since).Seconds()
	}
}

// byNow is the time of each tenant, in seconds, and how many jobs have begun.
func (w *workerTime) byNow() (seconds []float64, begun int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seconds, now := slices.Clone(w.seconds), time.Since(w.since).Seconds()
	for i, n := range w.running {
		seconds[i] += float64(n) * now
	}
	return seconds, w.begun
}

// weigh gives the first busy tenant three times the weight, and returns what takes
// it away.
func (s *stage) weigh(ctx context.Context) (undo func(context.Context) error, err error) {
	_, err = s.ours.pool.Exec(ctx, `INSERT INTO headgate.tenant_limits (tenant_id, weight) SELECT id, 3 FROM headgate.tenants WHERE slug = 'tenant-2'`)
	return func(ctx context.Context) error {
		_, err := s.ours.pool.Exec(ctx, `DELETE FROM headgate.tenant_limits`)
		return err
	}, err
}

// jainIndex is 1 if all are equal, and 1/n if one has all.
func jainIndex(shares []float64) float64 {
	var sum, squares float64
	for _, x := range shares {
		sum, squares = sum+x, squares+x*x
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(shares)) * squares)
}

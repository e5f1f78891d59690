package capacity

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/headgate/headgate/jobs"
)

// offer is one job of a step.
type offer struct {
	after  time.Duration // from the step's beginning
	tenant int
	part   Part
}

// offers draws the jobs of a step: each at a moment of its own, as independent tenants ask.
// The same step is drawn the same way each time.
func (p Plan) offers(tenants int) []offer {
	chance := rand.New(rand.NewPCG(uint64(tenants), 0)) //nolint:gosec // the same each time
	all := make([]offer, p.Offered(tenants))
	for i := range all {
		all[i] = offer{time.Duration(chance.Int64N(int64(p.For))), i % tenants, p.Mix.pick(chance)}
	}
	slices.SortFunc(all, func(a, b offer) int { return cmp.Compare(a.after, b.after) })
	return all
}

// step runs the jobs of so many tenants, and reads what became of them.
func (s *stage) step(ctx context.Context, tenants int) (Step, error) {
	if err := s.grow(ctx, tenants); err != nil {
		return Step{}, err
	}
	s.most.Store(0)
	begun := time.Now()
	planned, err := s.offer(ctx, begun, s.run.offers(tenants))
	if err != nil {
		return Step{}, err
	}
	until := begun.Add(s.run.For)
	if err := pause(ctx, time.Until(until)); err != nil {
		return Step{}, err
	}
	backlog, err := s.waiting(ctx)
	if err != nil {
		return Step{}, err
	}
	if err := s.drained(ctx, time.Now().Add(s.run.drain())); err != nil {
		return Step{}, err
	}
	ends, err := s.ends(ctx, begun)
	if err != nil {
		return Step{}, err
	}
	step := measure(planned, ends, begun, until)
	step.Tenants, step.Connections, step.backlog = tenants, int(s.most.Load()), backlog
	return step, s.forget(ctx)
}

// offer enqueues the jobs, each at its moment, and returns these moments by the jobs' UIDs.
// Whatever keeps it from being in time counts as the job's time.
func (s *stage) offer(ctx context.Context, begun time.Time, all []offer) (map[string]time.Time, error) {
	planned := make(map[string]time.Time, len(all))
	opts := &jobs.EnqueueOpts{MaxAttempts: 1, Queue: queue}
	for len(all) > 0 {
		if err := pause(ctx, time.Until(begun.Add(all[0].after))); err != nil {
			return nil, err
		}
		now := time.Since(begun)
		var params []jobs.EnqueueParams
		for n := 0; n < min(len(all), 1000) && all[n].after <= now; n++ {
			params = append(params, jobs.EnqueueParams{Tenant: s.slugs[all[n].tenant], Args: all[n].part.Args, Opts: opts})
		}
		results, err := s.client.EnqueueMany(ctx, params)
		if err != nil {
			return nil, fmt.Errorf("enqueueing: %w", err)
		}
		for n, result := range results {
			planned[result.UID] = begun.Add(all[n].after)
		}
		all = all[len(params):]
	}
	return planned, nil
}

// drained waits for the end of all jobs, until a time.
func (s *stage) drained(ctx context.Context, until time.Time) error {
	for {
		n, err := s.waiting(ctx)
		if err != nil || n == 0 || time.Now().After(until) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// measure makes figures of the jobs that were planned and those that ended.
func measure(planned map[string]time.Time, ends []end, begun, until time.Time) (s Step) {
	var whole, run []time.Duration
	done := 0
	for _, e := range ends {
		at, ours := planned[e.uid]
		if !ours {
			continue
		}
		delete(planned, e.uid)
		whole, run = append(whole, max(0, e.ended.Sub(at))), append(run, max(0, e.ended.Sub(e.started)))
		if e.state != string(jobs.Succeeded) {
			s.Failed++
			s.failure = cmp.Or(s.failure, fmt.Sprintf("%s: %s: %s", e.kind, e.class, e.message))
		} else if !e.ended.After(until) {
			done++
		}
	}
	s.Left = len(planned)
	for _, at := range planned { // as long as they have taken so far
		whole = append(whole, max(0, time.Since(at)))
	}
	s.Jobs = len(whole)
	seconds := until.Sub(begun).Seconds()
	s.Offered, s.Done = float64(s.Jobs)/seconds, float64(done)/seconds
	s.P50, s.P95, s.P99, s.RunP95 = percentile(whole, 50), percentile(whole, 95), percentile(whole, 99), percentile(run, 95)
	return s
}

// percentile is the nearest rank, in milliseconds; 0 of nothing.
func percentile(all []time.Duration, p float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	rank := int(math.Ceil(p / 100 * float64(len(all))))
	return math.Round(float64(all[rank-1])/float64(time.Millisecond)*10) / 10
}

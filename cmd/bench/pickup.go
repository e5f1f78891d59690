package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// arrivals is when jobs come: every gap comes one, and with follow another one
// so much later. It is an open loop: nobody waits for an answer before the next.
type arrivals struct {
	says        string
	gap, follow time.Duration
	effect      bool // each job has an open transaction in its tenant's database
}

var allArrivals = []arrivals{
	{"20/s, no database", 50 * time.Millisecond, 0, false},
	{"20/s", 50 * time.Millisecond, 0, true},
	{"pairs 50 ms apart, 4/s", 250 * time.Millisecond, 50 * time.Millisecond, true},
	{"300/s", time.Second / 300, 0, true},
}

// lostWakeUp is a wait that no wake-up can explain: the next poll came first.
const lostWakeUp = 250 * time.Millisecond

// measurePickup times from before the enqueue call to the handler's first line,
// by one clock, both sides with a cooldown of 1 ms, also on the inserting client.
// A handler with a database has a transaction open there by then, on both sides,
// and commits a row; ours is InTx, else NoConn.
func measurePickup(ctx context.Context, s *stage) (all []comparison, err error) {
	for _, a := range allArrivals {
		s.tell("pickup, " + a.says)
		pairs, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) { return s.pickup(ctx, who, a) })
		if err != nil {
			return nil, err
		}
		for _, q := range []struct {
			says string
			q    float64
		}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}} {
			c := compare(measure{a.says + ", " + q.says, inMillis, func(h half) float64 { return h.quantile(q.q) }}, pairs)
			ours, theirs := pooled(pairs)
			c.Ours, c.Theirs = rounded(ours.quantile(q.q)), rounded(theirs.quantile(q.q))
			c.Above250, c.Above2502 = ours.lost(), theirs.lost()
			all = append(all, c)
		}
	}
	return all, nil
}

// pooled are the latencies of all pairs together.
func pooled(pairs []pair) (ours, theirs half) {
	for _, p := range pairs {
		ours.latencies = append(ours.latencies, p.ours.latencies...)
		theirs.latencies = append(theirs.latencies, p.theirs.latencies...)
	}
	slices.Sort(ours.latencies)
	slices.Sort(theirs.latencies)
	return ours, theirs
}

// lost counts the lost wake-ups.
func (h half) lost() *int {
	n := 0
	for _, l := range h.latencies {
		if l > lostWakeUp {
			n++
		}
	}
	return &n
}

// times are when the jobs come, from the start.
func (a arrivals) times(until time.Duration) (all []time.Duration) {
	for at := time.Duration(0); at < until || len(all) == 0; at += a.gap {
		all = append(all, at)
		if a.follow > 0 {
			all = append(all, at+a.follow)
		}
	}
	return all
}

// pickup sends jobs at their times to a worker that has its connections.
func (s *stage) pickup(ctx context.Context, who *side, a arrivals) (h half, err error) {
	warm := s.warmUp()
	times := a.times(s.opts.half())
	sent, waited := make([]time.Time, len(times)), make([]time.Duration, len(times))
	first, rest := newTally(warm), newTally(len(times))
	stop, err := who.work(ctx, workload{cooldown: tuned, effect: a.effect, begun: func(n int) {
		if n < warm {
			first.one()
			return
		}
		waited[n-warm] = time.Since(sent[n-warm])
		rest.one()
	}})
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	one, err := who.one(tuned)
	if err != nil {
		return h, err
	}
	if _, err := s.shown(ctx, who, numbered(warm), first); err != nil {
		return h, err
	}
	clock := s.start()
	if err := send(ctx, times, func(ctx context.Context, i int) error {
		sent[i] = time.Now()
		return one(ctx, jobArgs{N: warm + i})
	}); err != nil {
		return h, fmt.Errorf("enqueueing: %w", err)
	}
	if err := rest.wait(ctx); err != nil {
		return h, err
	}
	if err := who.settled(ctx); err != nil {
		return h, err
	}
	h = clock.stop(len(times))
	slices.Sort(waited)
	h.latencies = waited
	return h, who.counted(ctx, warm+len(times))
}

// send calls one for each time when it has come, and returns when all have
// returned.
func send(ctx context.Context, times []time.Duration, one func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i, at := range times {
		timer := time.NewTimer(time.Until(began.Add(at)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), group.Wait())
		}
		group.Go(func() error { return one(ctx, i) })
	}
	return group.Wait()
}

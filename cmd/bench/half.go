package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

// half is what one side did in one measurement.
type half struct {
	jobs      int
	took      time.Duration
	cpu       cpuTime
	latencies []time.Duration // sorted; for pickup and fair
	value     float64         // for the shares of fair
	connects  float64         // new sessions in tenants' databases a job; for tenant
}

// pair is the two halves of one measurement, made one after the other.
type pair struct{ ours, theirs half }

func (h half) rate() float64           { return float64(h.jobs) / h.took.Seconds() }
func (h half) postgresMicros() float64 { return h.perJob(h.cpu.postgres) }
func (h half) goMicros() float64       { return h.perJob(h.cpu.process) }
func (h half) cpuMicros() float64      { return h.perJob(h.cpu.postgres + h.cpu.process) }

func (h half) perJob(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(max(h.jobs, 1))
}

// quantile is a latency in milliseconds.
func (h half) quantile(q float64) float64 {
	if len(h.latencies) == 0 {
		return 0
	}
	i := min(int(q*float64(len(h.latencies))), len(h.latencies)-1)
	return float64(h.latencies[i]) / float64(time.Millisecond)
}

// inPairs measures both sides in turn, A B B A A B: who goes first alternates,
// so that neither always finds the machine as the other has left it.
func (s *stage) inPairs(ctx context.Context, measure func(context.Context, *side) (half, error)) ([]pair, error) {
	pairs := make([]pair, s.opts.pairs)
	for i := range pairs {
		order := []*side{s.ours, s.theirs}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, who := range order {
			h, err := s.half(ctx, who, measure)
			if err != nil {
				return nil, err
			}
			if who == s.ours {
				pairs[i].ours = h
			} else {
				pairs[i].theirs = h
			}
		}
	}
	return pairs, nil
}

// half is one measurement of one side, on an empty queue and a checkpoint.
func (s *stage) half(ctx context.Context, who *side, measure func(context.Context, *side) (half, error)) (h half, err error) {
	if err := s.fresh(ctx, who); err != nil {
		return h, fmt.Errorf("emptying the queue: %w", err)
	}
	pprof.Do(ctx, pprof.Labels("side", who.name), func(ctx context.Context) { h, err = measure(ctx, who) })
	if err != nil {
		return h, fmt.Errorf("%s: %w", who.name, err)
	}
	return h, nil
}

// clock measures time and CPU from start on.
type clock struct {
	stage *stage
	began time.Time
	cpu   cpuTime
}

// start collects the garbage of what went before first.
func (s *stage) start() clock {
	runtime.GC()
	return clock{s, time.Now(), s.meter.read()}
}

func (c clock) stop(jobs int) half {
	took := time.Since(c.began)
	return half{jobs: jobs, took: took, cpu: c.stage.meter.read().minus(c.cpu)}
}

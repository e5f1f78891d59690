package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/orchestrator/explain"
)

// Figures of the central database are given again for figuresFresh: a process that is
// asked more often than that, or by several, looks no more often. A look ends after
// figuresWithin, which is longer than all its statements may take together. Who asks waits
// no longer than figuresWait, and the end of the process no longer than figuresEnd.
//
// Figures that are older than figuresTrusted are not given: a process that is cut off would
// tell of workers that are gone, beside processes that know better.
const (
	figuresFresh   = 15 * time.Second
	figuresWithin  = 20 * time.Second
	figuresWait    = 3 * time.Second
	figuresEnd     = 5 * time.Second
	figuresTrusted = 2 * time.Minute
)

// figures are the metrics of all processes together. Whoever is asked looks, unless
// another process does so at that moment: then the figures of before stand, and their age
// is a metric too.
//
// Nobody looks while metrics are collected, because a session that has frozen would hold
// all of them. The look is a goroutine of its own, one at a time, which end ends.
type figures struct {
	look  func(context.Context, explain.FiguresParams) (explain.Figures, bool, error)
	watch explain.FiguresParams
	log   *slog.Logger
	born  time.Time

	mu      sync.Mutex
	last    explain.Figures // zero: there are none
	tried   time.Time
	looking chan struct{} // closed when the look is over; nil: none is under way
	cancel  context.CancelFunc
	closed  bool
}

// now returns the figures that are to be given.
func (f *figures) now() explain.Figures {
	f.mu.Lock()
	if f.looking == nil && !f.closed && time.Since(f.tried) >= figuresFresh {
		ctx, cancel := context.WithTimeout(context.Background(), figuresWithin)
		f.tried, f.looking, f.cancel = time.Now(), make(chan struct{}), cancel
		go f.lookOnce(ctx, f.looking)
	}
	looking := f.looking
	f.mu.Unlock()
	if looking != nil {
		enough := time.NewTimer(figuresWait)
		defer enough.Stop()
		select {
		case <-looking:
		case <-enough.C:
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *figures) lookOnce(ctx context.Context, over chan struct{}) {
	found, ok, err := f.look(ctx, f.watch)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel()
	defer close(over)
	f.looking = nil
	switch {
	case err != nil:
		f.log.WarnContext(ctx, "the figures of the central database are not new", "error", err)
	case ok:
		if _, lacks := found.Missing[explain.FigureSuccesses]; lacks { // a success that was found does not go away: its age grows
			kept := map[string]time.Duration{}
			for name, since := range f.last.Successes {
				kept[name] = since + found.At.Sub(f.last.At)
			}
			found.Successes, found.Watched = kept, f.last.Watched
		}
		f.last = found
		for name, err := range found.Missing {
			f.log.WarnContext(ctx, "a figure of the central database could not be found", "figure", name, "error", err)
		}
	}
}

// end ends a look that is under way, and waits for that a while: a session that has frozen
// keeps no process from its end.
func (f *figures) end() {
	ctx, cancel := context.WithTimeout(context.Background(), figuresEnd)
	defer cancel()
	f.mu.Lock()
	f.closed = true
	looking := f.looking
	if looking != nil {
		f.cancel()
	}
	f.mu.Unlock()
	if looking != nil {
		select {
		case <-looking:
		case <-ctx.Done():
		}
	}
}

// observe gives the figures whenever somebody asks for metrics.
func (f *figures) observe(provider metric.MeterProvider) error {
	g, err := newFigureGauges(provider.Meter(telemetry.Scope))
	if err != nil {
		return fmt.Errorf("making the gauges of the central database: %w", err)
	}
	_, err = provider.Meter(telemetry.Scope).RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := f.now()
		if now.At.IsZero() {
			o.ObserveFloat64(g.age, time.Since(f.born).Seconds())
			return nil
		}
		o.ObserveFloat64(g.age, time.Since(now.At).Seconds())
		if time.Since(now.At) <= figuresTrusted {
			g.give(o, now)
		}
		return nil
	}, g.all...)
	if err != nil {
		return fmt.Errorf("observing the central database: %w", err)
	}
	return nil
}

// figureGauges are the metrics of all processes together.
type figureGauges struct {
	waiting, workers, budget, used, broken  metric.Int64ObservableGauge
	quarantined, unserved, overdue, stopped metric.Int64ObservableGauge
	watched, missing                        metric.Int64ObservableGauge
	oldest, overdueFor, success, age        metric.Float64ObservableGauge

	all []metric.Observable
}

func newFigureGauges(meter metric.Meter) (*figureGauges, error) {
	g, errs := &figureGauges{}, []error(nil)
	count := func(name, unit, says string) metric.Int64ObservableGauge {
		made, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(says))
		errs, g.all = append(errs, err), append(g.all, made)
		return made
	}
	seconds := func(name, says string) metric.Float64ObservableGauge {
		made, err := meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(says))
		errs, g.all = append(errs, err), append(g.all, made)
		return made
	}
	g.waiting = count(telemetry.QueueWaiting, "{job}", "jobs that are due and wait, counted up to 10,000")
	g.oldest = seconds(telemetry.QueueOldest, "since the first of the waiting jobs was due")
	g.workers = count(telemetry.Workers, "{worker}", "worker processes by state")
	g.budget = count(telemetry.ServerBudget, "{connection}", "connections that the server's budget allows")
	g.used = count(telemetry.ServerUsed, "{connection}", "connections of the budget that processes have published")
	g.broken = count(telemetry.Breakers, "{breaker}", "breakers that are open, of the server and its databases, by the class of what opened them")
	g.quarantined = count(telemetry.Quarantined, "{job}", "jobs in quarantine, counted up to 10,000")
	g.unserved = count(telemetry.UnservedKinds, "{kind}", "kinds of waiting jobs that no live worker has")
	g.overdue = count(telemetry.SchedulesOverdue, "{schedule}", "schedules with an expected occurrence that is unanswered for a minute, counted up to 10,000")
	g.overdueFor = seconds(telemetry.SchedulesLateness, "since the first unanswered occurrence was due")
	g.stopped = count(telemetry.SchedulesBroken, "{schedule}", "schedules that an error has stopped, counted up to 10,000")
	g.success = seconds(telemetry.ScheduleSuccess, "since a job of a watched schedule succeeded, for the tenant that waits longest")
	g.watched = count(telemetry.SchedulesWatched, "{schedule}", "schedules that a watched name has, whoever's")
	g.missing = count(telemetry.FiguresMissing, "{figure}", "1 for a group of figures of the central database that could not be found")
	g.age = seconds(telemetry.FiguresAge, "since the figures of the central database were found")
	return g, errors.Join(errs...)
}

// give tells figures, but those that are missing.
func (g *figureGauges) give(o metric.Observer, now explain.Figures) {
	of := func(key, value string) metric.MeasurementOption {
		return metric.WithAttributes(attribute.String(key, value))
	}
	has := func(figure string) bool {
		_, lacks := now.Missing[figure]
		return !lacks
	}
	for _, figure := range explain.FigureNames {
		n := int64(0)
		if !has(figure) {
			n = 1
		}
		o.ObserveInt64(g.missing, n, of(telemetry.Figure, figure))
	}
	for _, q := range now.Queues {
		o.ObserveInt64(g.waiting, int64(q.Waiting), of(telemetry.Queue, q.Name))
		o.ObserveFloat64(g.oldest, q.Oldest.Seconds(), of(telemetry.Queue, q.Name))
	}
	if w := now.Workers; has(explain.FigureWorkers) {
		o.ObserveInt64(g.workers, int64(w.Alive-w.Draining), of(telemetry.State, "live"))
		o.ObserveInt64(g.workers, int64(w.Draining), of(telemetry.State, "draining"))
		o.ObserveInt64(g.workers, int64(w.Silent), of(telemetry.State, "silent"))
	}
	for _, s := range now.Servers {
		if s.Budget > 0 {
			o.ObserveInt64(g.budget, int64(s.Budget), of(telemetry.Server, s.Name))
		}
		o.ObserveInt64(g.used, int64(s.Used), of(telemetry.Server, s.Name))
		server := attribute.String(telemetry.Server, s.Name)
		if _, is := s.Broken[string(jobs.ClassUnreachable)]; !is { // each server has a series
			o.ObserveInt64(g.broken, 0, metric.WithAttributes(server, attribute.String(telemetry.Class, string(jobs.ClassUnreachable))))
		}
		for class, n := range s.Broken {
			o.ObserveInt64(g.broken, int64(n), metric.WithAttributes(server, attribute.String(telemetry.Class, class)))
		}
	}
	if has(explain.FigureCounts) {
		o.ObserveInt64(g.quarantined, int64(now.Quarantined))
		o.ObserveInt64(g.stopped, int64(now.Broken))
	}
	if has(explain.FigureKinds) {
		o.ObserveInt64(g.unserved, int64(now.UnservedKinds))
	}
	if has(explain.FigureSchedules) {
		o.ObserveInt64(g.overdue, int64(now.Overdue))
		o.ObserveFloat64(g.overdueFor, now.OverdueFor.Seconds())
	}
	for name, n := range now.Watched {
		o.ObserveInt64(g.watched, int64(n), of(telemetry.Schedule, name))
	}
	for name, since := range now.Successes {
		o.ObserveFloat64(g.success, since.Seconds(), of(telemetry.Schedule, name))
	}
}

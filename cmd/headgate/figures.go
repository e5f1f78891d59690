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

	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/orchestrator/explain"
)

// figuresFresh is how long figures of the central database are given again. A process that
// is asked more often than that, or by several, looks no more often.
const figuresFresh = 15 * time.Second

// figures are the metrics of all processes together. Whoever is asked looks, unless
// another process does so at that moment: then the figures of before stand, and their age
// is a metric too.
type figures struct {
	look  func(context.Context, explain.FiguresParams) (explain.Figures, bool, error)
	watch explain.FiguresParams
	log   *slog.Logger

	mu    sync.Mutex
	last  explain.Figures // zero: there are none
	tried time.Time
}

// now returns the figures that are to be given.
func (f *figures) now(ctx context.Context) explain.Figures {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.tried) < figuresFresh {
		return f.last
	}
	f.tried = time.Now()
	found, ok, err := f.look(ctx, f.watch)
	switch {
	case err != nil:
		f.log.WarnContext(ctx, "the figures of the central database are not new", "error", err)
	case ok:
		f.last = found
	}
	return f.last
}

// observe gives the figures whenever somebody asks for metrics.
func (f *figures) observe(provider metric.MeterProvider) error {
	meter := provider.Meter(telemetry.Scope)
	var errs []error
	var all []metric.Observable
	count := func(name, unit, says string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(says))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	seconds := func(name, says string) metric.Float64ObservableGauge {
		g, err := meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(says))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	waiting := count(telemetry.QueueWaiting, "{job}", "jobs that are due and wait, counted up to 10,000")
	oldest := seconds(telemetry.QueueOldest, "since the first of the waiting jobs was due")
	workers := count(telemetry.Workers, "{worker}", "worker processes by state")
	budget := count(telemetry.ServerBudget, "{connection}", "connections that the server's budget allows")
	used := count(telemetry.ServerUsed, "{connection}", "connections of the budget that processes have published")
	broken := count(telemetry.Breakers, "{breaker}", "breakers that are open, of the server and its databases")
	quarantined := count(telemetry.Quarantined, "{job}", "jobs in quarantine, counted up to 10,000")
	unserved := count(telemetry.UnservedKinds, "{kind}", "kinds of waiting jobs that no live worker has")
	overdue := count(telemetry.SchedulesOverdue, "{schedule}", "schedules with an expected occurrence that is unanswered for a minute, counted up to 10,000")
	overdueFor := seconds(telemetry.SchedulesLateness, "since the first unanswered occurrence was due")
	stopped := count(telemetry.SchedulesBroken, "{schedule}", "schedules that an error has stopped, counted up to 10,000")
	success := seconds(telemetry.ScheduleSuccess, "since a job of a watched schedule succeeded, for the tenant that waits longest")
	age := seconds(telemetry.FiguresAge, "since the figures of the central database were found")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("making the gauges of the central database: %w", err)
	}
	_, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		now := f.now(ctx)
		if now.At.IsZero() {
			return nil
		}
		of := func(key, value string) metric.MeasurementOption {
			return metric.WithAttributes(attribute.String(key, value))
		}
		o.ObserveFloat64(age, time.Since(now.At).Seconds())
		for _, q := range now.Queues {
			o.ObserveInt64(waiting, int64(q.Waiting), of(telemetry.Queue, q.Name))
			o.ObserveFloat64(oldest, q.Oldest.Seconds(), of(telemetry.Queue, q.Name))
		}
		w := now.Workers
		o.ObserveInt64(workers, int64(w.Alive-w.Draining), of(telemetry.State, "live"))
		o.ObserveInt64(workers, int64(w.Draining), of(telemetry.State, "draining"))
		o.ObserveInt64(workers, int64(w.Silent), of(telemetry.State, "silent"))
		for _, s := range now.Servers {
			if s.Budget > 0 {
				o.ObserveInt64(budget, int64(s.Budget), of(telemetry.Server, s.Name))
			}
			o.ObserveInt64(used, int64(s.Used), of(telemetry.Server, s.Name))
			o.ObserveInt64(broken, int64(s.Broken), of(telemetry.Server, s.Name))
		}
		o.ObserveInt64(quarantined, int64(now.Quarantined))
		o.ObserveInt64(unserved, int64(now.UnservedKinds))
		o.ObserveInt64(overdue, int64(now.Overdue))
		o.ObserveFloat64(overdueFor, now.OverdueFor.Seconds())
		o.ObserveInt64(stopped, int64(now.Broken))
		for name, since := range now.Successes {
			o.ObserveFloat64(success, since.Seconds(), of(telemetry.Schedule, name))
		}
		return nil
	}, all...)
	if err != nil {
		return fmt.Errorf("observing the central database: %w", err)
	}
	return nil
}

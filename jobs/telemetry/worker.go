package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Worker records what a worker does. Its methods are safe for concurrent use.
type Worker struct {
	meter metric.Meter
	top   *topTenants // nil unless TopTenants was called

	attempts, retries, hits, claimJobs, limited metric.Int64Counter
	duration, pickUp, ends, claimDurations      metric.Float64Histogram
}

// Bounds of histograms, in seconds.
var (
	shortBounds = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
	longBounds  = []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 900, 3600}
)

// NewWorker makes the instruments. nil means the global provider.
func NewWorker(provider metric.MeterProvider) (*Worker, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(Scope)
	var errs []error
	counter := func(name, unit, says string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(says))
		errs = append(errs, err)
		return c
	}
	histogram := func(name, says string, bounds []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(says), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	w := &Worker{
		meter:          meter,
		attempts:       counter(Attempts, "{attempt}", "attempts that have ended"),
		retries:        counter(Retries, "{attempt}", "attempts that have failed and are tried again"),
		hits:           counter(LedgerHits, "{attempt}", "attempts whose work the ledger knew as done"),
		limited:        counter(ClaimLimited, "{claim}", "claims that left due jobs because of a limit"),
		claimJobs:      counter(ClaimJobs, "{job}", "jobs that claims have taken"),
		duration:       histogram(AttemptDuration, "from an attempt's begin to its end", longBounds),
		pickUp:         histogram(PickUpDelay, "from the time when a job was due to the begin of its first attempt", longBounds),
		ends:           histogram(EndDelay, "from an attempt's end until the central database has recorded it", shortBounds),
		claimDurations: histogram(ClaimDuration, "how long claims take", shortBounds),
	}
	return w, errors.Join(errs...)
}

// Attempt is one that has ended.
type Attempt struct {
	Kind, Queue, State, Class, Server string

	Tenant string // its slug; "" for a job of a whole database
	Failed bool   // for good, or to be tried again

	First  bool          // it was the job's first
	Again  bool          // it has failed and is tried again
	Hit    bool          // the ledger knew its work as done
	Took   time.Duration // from its begin to its end
	Waited time.Duration // from the time when the job was due; only of the first one
}

// Attempt records one.
func (w *Worker) Attempt(ctx context.Context, a Attempt) {
	kind, state, class := attribute.String(Kind, a.Kind), attribute.String(State, a.State), attribute.String(Class, a.Class)
	w.attempts.Add(ctx, 1, metric.WithAttributes(kind, state, class, attribute.String(Server, a.Server)))
	w.duration.Record(ctx, a.Took.Seconds(), metric.WithAttributes(kind, state))
	if a.First {
		w.pickUp.Record(ctx, max(a.Waited, 0).Seconds(), metric.WithAttributes(attribute.String(Queue, a.Queue)))
	}
	w.top.count(a.Tenant, a.Failed)
	if a.Hit {
		w.hits.Add(ctx, 1, metric.WithAttributes(kind))
	}
	if a.Again {
		w.retries.Add(ctx, 1, metric.WithAttributes(kind, class))
	}
}

// End records that an attempt's end has been recorded, so long after it came.
func (w *Worker) End(ctx context.Context, delay time.Duration) {
	w.ends.Record(ctx, max(delay, 0).Seconds())
}

// Claim is one that has ended.
type Claim struct {
	Queue   string
	Took    time.Duration
	Jobs    int
	Failed  bool     // it took nothing because of an error
	Limited []string // what kept due jobs back: limit, server, rate
}

// Claim records one.
func (w *Worker) Claim(ctx context.Context, c Claim) {
	outcome := "ok"
	if c.Failed {
		outcome = "failed"
	}
	queue := attribute.String(Queue, c.Queue)
	w.claimDurations.Record(ctx, c.Took.Seconds(), metric.WithAttributes(queue, attribute.String(Outcome, outcome)))
	w.claimJobs.Add(ctx, int64(c.Jobs), metric.WithAttributes(queue))
	for _, why := range c.Limited {
		w.limited.Add(ctx, 1, metric.WithAttributes(queue, attribute.String(Reason, why)))
	}
}

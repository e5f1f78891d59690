package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Scheduler records what a scheduler does. Its methods are safe for concurrent use.
type Scheduler struct {
	answers  metric.Int64Counter
	lateness metric.Float64Histogram
}

// NewScheduler makes the instruments. nil means the global provider.
func NewScheduler(provider metric.MeterProvider) (*Scheduler, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(Scope)
	answers, err := meter.Int64Counter(ScheduleAnswers, metric.WithUnit("{occurrence}"), metric.WithDescription("occurrences that the scheduler has answered"))
	lateness, err2 := meter.Float64Histogram(ScheduleLateness, metric.WithUnit("s"), metric.WithDescription("from an occurrence's time to its firing"),
		metric.WithExplicitBucketBoundaries(longBounds...))
	return &Scheduler{answers, lateness}, errors.Join(err, err2)
}

// Answered records that n occurrences have got an answer.
func (s *Scheduler) Answered(ctx context.Context, answer string, n int) {
	s.answers.Add(ctx, int64(n), metric.WithAttributes(attribute.String(Answer, answer)))
}

// Late records how long after its time an occurrence has fired.
func (s *Scheduler) Late(ctx context.Context, by time.Duration) {
	s.lateness.Record(ctx, max(by, 0).Seconds())
}

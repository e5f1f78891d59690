package worker

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
)

const tracedAsKey = "traced_as" // wire.Meta.TracedAs

// trace begins the attempt's span. Handlers enqueue under the context that it returns.
func (a *attempt) trace(ctx context.Context) context.Context {
	asked, claimed := a.w.lease.Claimed(a.row)
	if asked.IsZero() {
		asked, claimed = a.started, a.started
	}
	ctx, a.span = a.w.tracer.Process(ctx, telemetry.Message{
		UID: a.meta.UID, Kind: a.kind.name, Queue: a.row.Queue, Schedule: a.meta.Schedule, Attempt: a.row.Attempt,
		Producer: a.meta.TraceParent, Before: a.meta.TracedAs, Claiming: asked, Claimed: claimed,
	})
	return ctx
}

// traceEnd writes how the attempt ended into its span, and into the row where the next
// attempt's span finds this one.
func (a *attempt) traceEnd(ctx context.Context, o jobs.Outcome) error {
	if !a.span.Recording() {
		return nil
	}
	a.span.Over(string(o.State), string(o.Class), o.State == jobs.Failed || o.State == jobs.Discarded, o.Recovered)
	if o.State != jobs.Failed && o.State != jobs.Snoozed {
		return nil
	}
	return river.MetadataSet(ctx, tracedAsKey, telemetry.TraceParent(ctx))
}

// written is called when the attempt's end, which came at over, is in the central database.
func (a *attempt) written(over time.Time) {
	a.span.Recorded(over)
	a.w.meter.End(context.Background(), time.Since(over))
}

package jobs

import (
	"context"
	"time"
)

// Meta is what Headgate writes into the metadata of a queued row. Any client of
// the queue may insert a job for Headgate's workers by writing these keys; a
// row without job_uid is given one from its id.
type Meta struct {
	UID         string     `json:"job_uid"`
	Tenant      string     `json:"tenant,omitempty"`     // UUID; for scope tenant
	Database    string     `json:"database,omitempty"`   // UUID; for scope database
	TimeoutMS   int64      `json:"timeout_ms,omitempty"` // of one attempt, instead of the kind's
	Schedule    string     `json:"schedule,omitempty"`
	Nominal     *time.Time `json:"nominal,omitempty"`
	TraceParent string     `json:"traceparent,omitempty"` // W3C trace context of the enqueuer
}

type traceKey struct{}

// WithTraceParent returns a context that carries a W3C traceparent. Jobs
// enqueued under it continue that trace; a handler's context carries its job's.
func WithTraceParent(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// TraceParentFrom returns the traceparent that ctx carries, or "".
func TraceParentFrom(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceKey{}).(string)
	return traceparent
}

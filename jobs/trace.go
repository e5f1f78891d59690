package jobs

import "context"

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

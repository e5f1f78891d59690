package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const traceParentKey = "traceparent"

// TraceParent is the W3C traceparent of the span in ctx. It is "" if ctx has none.
func TraceParent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceParentKey]
}

// WithTraceParent returns a context with the span that a W3C traceparent names, of another
// process. The context is ctx itself if the text is no traceparent.
func WithTraceParent(ctx context.Context, text string) context.Context {
	if span := spanContext(text); span.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, span)
	}
	return ctx
}

// TraceID is the trace that a traceparent names, in hexadecimal digits. It is "" if the
// text is no traceparent.
func TraceID(text string) string {
	if span := spanContext(text); span.IsValid() {
		return span.TraceID().String()
	}
	return ""
}

func spanContext(text string) trace.SpanContext {
	if text == "" {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceParentKey: text})
	return trace.SpanContextFromContext(ctx)
}

// Tracer begins spans. The zero value begins none. Its methods are safe for concurrent use.
type Tracer struct{ tracer trace.Tracer }

// NewTracer returns a tracer of a provider; nil means the global one.
func NewTracer(provider trace.TracerProvider) Tracer {
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	return Tracer{provider.Tracer(Scope)}
}

func (t Tracer) start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t.tracer == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return t.tracer.Start(ctx, name, opts...)
}

func text(key, value string) attribute.KeyValue { return attribute.String(key, value) }

func messaging(operation, kind string, opts ...attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(append(opts,
		text(MessagingSystem, "headgate"), text(MessagingOperation, operation), text(MessagingType, operation), text(Kind, kind))...)
}

// Send begins the span of an enqueue of n jobs, the first of a kind. end takes the error.
func (t Tracer) Send(ctx context.Context, kind string, n int) (_ context.Context, end func(error)) {
	ctx, span := t.start(ctx, SpanSend+" "+kind, trace.WithSpanKind(trace.SpanKindProducer),
		messaging(SpanSend, kind, attribute.Int(MessagingCount, n)))
	return ctx, func(err error) { finish(span, err) }
}

// Fire begins the span of one occurrence of a schedule, the root of a trace. It returns the
// span's traceparent. end takes the error.
func (t Tracer) Fire(ctx context.Context, kind, schedule, uid string, nominal time.Time) (traceParent string, end func(error)) {
	ctx, span := t.start(ctx, SpanFire+" "+kind, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer),
		messaging(SpanFire, kind, text(Schedule, schedule), text(MessagingMessage, uid), text(Nominal, nominal.UTC().Format(time.RFC3339))))
	return TraceParent(ctx), func(err error) { finish(span, err) }
}

// Message is a job that an attempt is made at.
type Message struct {
	UID, Kind, Queue, Schedule string

	Attempt  int
	Producer string    // the traceparent of its row, or ""
	Before   string    // that of the attempt before, or ""
	Claiming time.Time // when its claim began
	Claimed  time.Time // when its claim had succeeded
}

// Process begins the root span of an attempt, at the time when its claim began. If the
// producer has decided against it, nothing is recorded; ctx then has the producer's span.
func (t Tracer) Process(ctx context.Context, m Message) (context.Context, Process) {
	producer := spanContext(m.Producer)
	if producer.IsValid() && !producer.IsSampled() {
		return trace.ContextWithRemoteSpanContext(ctx, producer), Process{trace.SpanFromContext(context.Background())}
	}
	ctx, span := t.start(ctx, SpanProcess+" "+m.Kind, trace.WithNewRoot(), trace.WithTimestamp(m.Claiming), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(links(producer, spanContext(m.Before))...),
		messaging(SpanProcess, m.Kind, text(MessagingDestination, m.Queue), text(MessagingMessage, m.UID), attribute.Int(AttemptNumber, m.Attempt)))
	if !span.IsRecording() {
		if !span.SpanContext().IsValid() { // no provider: what this attempt enqueues goes on with the producer's trace
			ctx = trace.ContextWithRemoteSpanContext(ctx, producer)
		}
		return ctx, Process{span}
	}
	if m.Schedule != "" {
		span.SetAttributes(text(Schedule, m.Schedule))
	}
	_, claim := span.TracerProvider().Tracer(Scope).Start(ctx, SpanClaim, trace.WithTimestamp(m.Claiming))
	claim.End(trace.WithTimestamp(m.Claimed))
	return ctx, Process{span}
}

func links(producer, before trace.SpanContext) (all []trace.Link) {
	if producer.IsValid() {
		all = append(all, trace.Link{SpanContext: producer, Attributes: []attribute.KeyValue{text(Link, LinkProducer)}})
	}
	if before.IsValid() {
		all = append(all, trace.Link{SpanContext: before, Attributes: []attribute.KeyValue{text(Link, LinkAttempt)}})
	}
	return all
}

// Process is the root span of an attempt.
type Process struct{ span trace.Span }

// Recording says whether anybody records the span.
func (p Process) Recording() bool { return p.span != nil && p.span.IsRecording() }

// TraceID is that of the span, in hexadecimal digits; "" if nobody records the span.
func (p Process) TraceID() string {
	if !p.Recording() {
		return ""
	}
	return p.span.SpanContext().TraceID().String()
}

// Where says for whom the attempt is made, and where.
func (p Process) Where(tenant, database, server string) {
	if p.Recording() {
		p.span.SetAttributes(text(Tenant, tenant), text(Database, database), text(Server, server))
	}
}

// Over says how the attempt ended. The span goes on until Recorded.
func (p Process) Over(state, class string, failed, recovered bool) {
	if !p.Recording() {
		return
	}
	p.span.SetAttributes(text(State, state))
	if class != "" {
		p.span.SetAttributes(text(Class, class))
	}
	if recovered {
		p.span.SetAttributes(attribute.Bool(Recovered, true))
	}
	if failed {
		p.span.SetAttributes(text(ErrorType, class))
		p.span.SetStatus(codes.Error, state)
	}
}

// Recorded ends the span: the attempt ended at over, and its end is in the central database
// now, or somebody else's to write.
func (p Process) Recorded(over time.Time) {
	if !p.Recording() {
		return
	}
	ctx := trace.ContextWithSpan(context.Background(), p.span)
	_, end := p.span.TracerProvider().Tracer(Scope).Start(ctx, SpanEnd, trace.WithTimestamp(over))
	end.End()
	p.span.End()
}

// Step begins a part of the span in ctx, if anybody records that. end takes the error.
func Step(ctx context.Context, name string) (_ context.Context, end func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := parent.TracerProvider().Tracer(Scope).Start(ctx, name)
	return ctx, func(err error) { finish(span, err) }
}

// Own is Step for a part that is Headgate's own: the statements in it have no spans.
func Own(ctx context.Context, name string) (_ context.Context, end func(error)) {
	inside, end := Step(ctx, name)
	if trace.SpanFromContext(inside).IsRecording() {
		inside = trace.ContextWithSpan(inside, trace.SpanFromContext(context.Background()))
	}
	return inside, end
}

// finish ends a span. The error's text stays out, because the text may have values.
func finish(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		cause := err
		for next := errors.Unwrap(cause); next != nil; next = errors.Unwrap(cause) {
			cause = next
		}
		span.SetAttributes(text(ErrorType, fmt.Sprintf("%T", cause)))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

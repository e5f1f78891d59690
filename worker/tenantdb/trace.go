package tenantdb

import (
	"context"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs/telemetry"
)

// tracer makes the spans of statements.
func (c Config) tracer() pgx.QueryTracer {
	provider := c.Tracer
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	opts := []otelpgx.Option{
		otelpgx.WithTracerProvider(withoutTexts{provider}), otelpgx.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelpgx.WithDisableConnectionDetailsInAttributes(), otelpgx.WithSpanNameFunc(telemetry.Operation), otelpgx.WithQuerySpanNamePrefix(),
	}
	if !c.TraceSQL {
		opts = append(opts, otelpgx.WithDisableSQLStatementInAttributes())
	}
	return otelpgx.NewTracer(opts...)
}

// withoutTexts is a provider whose spans take no text of an error, because a server's text
// may have rows' values. The SQLSTATE is an attribute.
type withoutTexts struct{ trace.TracerProvider }

// Tracer is called by otelpgx.
func (p withoutTexts) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return tracerWithoutTexts{p.TracerProvider.Tracer(name, opts...)}
}

type tracerWithoutTexts struct{ trace.Tracer }

// Start is called by otelpgx.
func (t tracerWithoutTexts) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx, span := t.Tracer.Start(ctx, name, opts...)
	span = spanWithoutTexts{span}
	return trace.ContextWithSpan(ctx, span), span
}

type spanWithoutTexts struct{ trace.Span }

// RecordError is called by otelpgx.
func (spanWithoutTexts) RecordError(error, ...trace.EventOption) {}

// SetStatus is called by otelpgx.
func (s spanWithoutTexts) SetStatus(code codes.Code, _ string) { s.Span.SetStatus(code, "") }

package tenantdb

import (
	"context"
	"strings"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes the spans of statements.
func (c Config) tracer() pgx.QueryTracer {
	provider := c.Tracer
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	opts := []otelpgx.Option{
		otelpgx.WithTracerProvider(withoutTexts{provider}), otelpgx.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelpgx.WithDisableConnectionDetailsInAttributes(), otelpgx.WithSpanNameFunc(operation), otelpgx.WithQuerySpanNamePrefix(),
	}
	if !c.TraceSQL {
		opts = append(opts, otelpgx.WithDisableSQLStatementInAttributes())
	}
	return otelpgx.NewTracer(opts...)
}

// operations are the first words of statements that a span may have as its name. Anything
// else may be a value.
var operations = map[string]bool{
	"SELECT": true, "INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true, "WITH": true, "VALUES": true, "COPY": true, "CALL": true, "DO": true,
	"BEGIN": true, "COMMIT": true, "ROLLBACK": true, "SAVEPOINT": true, "RELEASE": true, "SET": true, "RESET": true, "SHOW": true, "LOCK": true,
	"CREATE": true, "ALTER": true, "DROP": true, "TRUNCATE": true, "ANALYZE": true, "VACUUM": true, "REINDEX": true, "REFRESH": true, "EXPLAIN": true,
	"DECLARE": true, "FETCH": true, "CLOSE": true, "PREPARE": true, "EXECUTE": true, "GRANT": true, "REVOKE": true, "COMMENT": true,
}

// operation is a statement's first word, or SQL.
func operation(sql string) string {
	word := strings.TrimLeft(sql, " \t\r\n(")
	if end := strings.IndexFunc(word, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }); end >= 0 {
		word = word[:end]
	}
	if len(word) > 10 {
		return "SQL"
	}
	if word = strings.ToUpper(word); operations[word] {
		return word
	}
	return "SQL"
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

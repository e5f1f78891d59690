package telemetry

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// operations are the first words of statements that a span may have as its name. Anything
// else may be a value.
var operations = map[string]bool{
	"SELECT": true, "INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true, "WITH": true, "VALUES": true, "COPY": true, "CALL": true, "DO": true,
	"BEGIN": true, "COMMIT": true, "ROLLBACK": true, "SAVEPOINT": true, "RELEASE": true, "SET": true, "RESET": true, "SHOW": true, "LOCK": true,
	"CREATE": true, "ALTER": true, "DROP": true, "TRUNCATE": true, "ANALYZE": true, "VACUUM": true, "REINDEX": true, "REFRESH": true, "EXPLAIN": true,
	"DECLARE": true, "FETCH": true, "CLOSE": true, "PREPARE": true, "EXECUTE": true, "GRANT": true, "REVOKE": true, "COMMENT": true,
}

// Operation is a statement's first word, or SQL.
func Operation(sql string) string {
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

// Statement is Step for a statement that is sent past pgx's own tracing. Its span has the
// name and the attributes that pgx's would have.
func Statement(ctx context.Context, sql string) (_ context.Context, end func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, over := Step(ctx, "query "+Operation(sql))
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String(DBSystem, "postgresql"))
	return ctx, func(err error) {
		var state interface{ SQLState() string }
		if errors.As(err, &state) {
			span.SetAttributes(attribute.String(SQLState, state.SQLState()))
		}
		over(err)
	}
}

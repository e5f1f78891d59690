package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/worker/internal/redact"
	"github.com/headgate/headgate/worker/tenantdb"
)

// Bounds of what is kept of the lines of an attempt, in bytes.
const (
	logMost     = 16 << 10
	logTextMost = 2 << 10 // a message, or a value
	logLastLine = 256     // what the line about lines that were left out may take
)

// jobLog is the handler behind jobs.Info.Log: of each line one copy goes to the worker's own
// handler, and one is kept for the attempt's end. What there is to it is made with the first
// line, because most attempts log nothing.
type jobLog struct {
	a    *attempt       // read only: its tenant, kind, job and trace
	conn *tenantdb.Conn // nil for a kind without one
	root func() *jobLogHandler

	mu      sync.Mutex
	closed  bool              // guarded by mu: the attempt is over, and its connection is another's
	said    []*pgconn.PgError // guarded by mu: of the server, as of the end
	text    bytes.Buffer      // guarded by mu
	leftOut int               // guarded by mu
}

// beginLog gives the handler its logger.
func (a *attempt) beginLog() {
	if l := a.log; l != nil { // its verifier has one
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conn = a.conn
		return
	}
	l := &jobLog{a: a, conn: a.conn}
	l.root = sync.OnceValue(l.makeRoot)
	a.log, a.info.Logger = l, slog.New(l)
}

func (l *jobLog) makeRoot() *jobLogHandler {
	kept := slog.Handler(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.Level(-1 << 30), ReplaceAttr: fitting}))
	if id := l.a.traceID(); id != "" {
		kept = kept.WithAttrs([]slog.Attr{slog.String("trace_id", id)})
	}
	return &jobLogHandler{log: l, own: l.a.w.cfg.Logger.With(l.a.logAttrs()...).Handler(), kept: kept.WithGroup("attrs")}
}

// Enabled, Handle, WithAttrs and WithGroup are slog.Handler's.
func (l *jobLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.root().Enabled(ctx, level)
}

// Handle writes a line.
func (l *jobLog) Handle(ctx context.Context, r slog.Record) error { return l.root().Handle(ctx, r) }

// WithAttrs has attributes in each line.
func (l *jobLog) WithAttrs(attrs []slog.Attr) slog.Handler { return l.root().WithAttrs(attrs) }

// WithGroup has further attributes in a group.
func (l *jobLog) WithGroup(name string) slog.Handler { return l.root().WithGroup(name) }

// Write keeps a line, which comes whole.
func (l *jobLog) Write(line []byte) (int, error) {
	n := len(line)
	line = bytes.ToValidUTF8(line, []byte("\uFFFD")) // what a value marshals itself to may be anything
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case l.leftOut > 0 || l.text.Len()+len(line) > logMost-logLastLine:
		l.leftOut++
	default:
		l.text.Write(line)
	}
	return n, nil
}

// take ends the keeping and returns what was kept.
func (l *jobLog) take() string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed = true; l.leftOut > 0 {
		last, _ := json.Marshal(map[string]any{ // never fails
			"time": time.Now().UTC(), "level": slog.LevelWarn.String(),
			"msg": fmt.Sprintf("%d further lines were left out: an attempt keeps %d KB", l.leftOut, logMost>>10),
		})
		l.text.Write(last)
	}
	return strings.TrimSuffix(l.text.String(), "\n")
}

// release lets go of the connection, because others may use it from now on.
func (l *jobLog) release() {
	if l == nil || l.conn == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said, l.conn = l.conn.Errors(), nil
}

// heard is what the server has said on the attempt's connection.
func (l *jobLog) heard() []*pgconn.PgError {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return l.conn.Errors()
	}
	return l.said
}

// jobLogHandler is a jobLog with what With and WithGroup have added.
type jobLogHandler struct {
	log       *jobLog
	own, kept slog.Handler
}

// Enabled says whether somebody takes lines of a level.
func (h *jobLogHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.log.a.w.cfg.JobLogLevel || h.own.Enabled(ctx, level)
}

// Handle writes a line to both, redacted.
func (h *jobLogHandler) Handle(ctx context.Context, r slog.Record) error {
	clean := h.log.redactor()
	line := slog.NewRecord(r.Time, r.Level, clean.text(r.Message), r.PC)
	r.Attrs(func(attr slog.Attr) bool {
		line.AddAttrs(clean.attr(attr))
		return true
	})
	var errs []error
	if h.own.Enabled(ctx, r.Level) {
		errs = append(errs, h.own.Handle(ctx, line.Clone()))
	}
	if r.Level >= h.log.a.w.cfg.JobLogLevel {
		errs = append(errs, h.kept.Handle(ctx, line))
	}
	return errors.Join(errs...)
}

// WithAttrs has attributes in each line.
func (h *jobLogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := h.log.redactor()
	redacted := make([]slog.Attr, len(attrs))
	for i, attr := range attrs {
		redacted[i] = clean.attr(attr)
	}
	return &jobLogHandler{log: h.log, own: h.own.WithAttrs(redacted), kept: h.kept.WithAttrs(redacted)}
}

// WithGroup has further attributes in a group.
func (h *jobLogHandler) WithGroup(name string) slog.Handler {
	return &jobLogHandler{log: h.log, own: h.own.WithGroup(name), kept: h.kept.WithGroup(name)}
}

// redactor takes out of lines what the server has said of rows, as attempt.text does it.
type redactor struct {
	full bool
	said []*pgconn.PgError
}

func (l *jobLog) redactor() redactor {
	if l.a.w.cfg.ErrorDetail == ErrorsFull {
		return redactor{full: true}
	}
	return redactor{said: l.heard()}
}

func (r redactor) text(s string) string {
	if r.full || len(r.said) == 0 {
		return s
	}
	return redact.Text(errors.New(s), r.said)
}

func (r redactor) attr(attr slog.Attr) slog.Attr {
	if r.full {
		return attr
	}
	attr.Value = attr.Value.Resolve()
	switch attr.Value.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(r.text(attr.Value.String()))
	case slog.KindGroup:
		members := attr.Value.Group()
		redacted := make([]slog.Attr, len(members))
		for i, m := range members {
			redacted[i] = r.attr(m)
		}
		attr.Value = slog.GroupValue(redacted...)
	case slog.KindAny:
		switch v := attr.Value.Any().(type) {
		case nil:
		case error:
			attr.Value = slog.StringValue(r.ofError(v))
		default:
			if len(r.said) == 0 {
				break
			}
			if was := fmt.Sprintf("%+v", v); r.text(was) != was {
				attr.Value = slog.StringValue(r.text(was))
			}
		}
	default: // numbers and times
	}
	return attr
}

// ofError is an error's text. Where its own code panics, as with a nil pointer, it is what
// fmt makes of it.
func (r redactor) ofError(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = r.text(fmt.Sprint(err))
		}
	}()
	return redact.Text(err, r.said)
}

// asJSON is a value as encoding/json has it, whose own code may panic.
func asJSON(v any) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its own JSON panicked: %v", p)
		}
	}()
	return json.Marshal(v)
}

// fitting cuts what is too long to be kept. It is slog.HandlerOptions.ReplaceAttr.
func fitting(_ []string, attr slog.Attr) slog.Attr {
	switch attr.Value.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(clean(attr.Value.String(), logTextMost))
	case slog.KindAny:
		if level, ok := attr.Value.Any().(slog.Level); ok {
			attr.Value = slog.StringValue(level.String())
			break
		}
		text, err := asJSON(attr.Value.Any())
		switch {
		case err != nil || string(text) == "{}":
			attr.Value = slog.StringValue(clean(fmt.Sprintf("%+v", attr.Value.Any()), logTextMost))
		case len(text) > logTextMost:
			attr.Value = slog.StringValue(clean(string(text), logTextMost))
		default:
			attr.Value = slog.AnyValue(json.RawMessage(text))
		}
	default:
	}
	return attr
}

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

	"github.com/headgate/headgate/jobs"
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
	closed  bool          // guarded by mu: the attempt is over, and its connection is another's
	said    *redact.Words // guarded by mu: of the server, as of the last line or the end
	forgot  bool          // guarded by mu: the server has said more
	text    bytes.Buffer  // guarded by mu
	leftOut int           // guarded by mu
}

// beginLog gives the handler its logger.
func (a *attempt) beginLog() {
	if l := a.log; l != nil { // its verifier has one
		l.mu.Lock()
		defer l.mu.Unlock()
		l.hear()
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
			"msg": fmt.Sprintf("%s left out: an attempt keeps %d KB", jobs.CountVerb(l.leftOut, "further line", "was", "were"), logMost>>10),
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
	l.hear()
	l.conn = nil
}

// heard is what the server has said on the attempt's connections, and whether it has said
// more than is known.
func (l *jobLog) heard() (said *redact.Words, forgot bool) {
	if l == nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hear()
	return l.said, l.forgot
}

// hear asks the connection, if there is one. l.mu is held.
func (l *jobLog) hear() {
	if l.conn == nil {
		return
	}
	said, forgot := l.conn.Errors()
	l.said, l.forgot = l.said.With(said...), l.forgot || forgot
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
	if !clean.forgot {
		all := make([]slog.Attr, 0, r.NumAttrs())
		r.Attrs(func(attr slog.Attr) bool {
			all = append(all, attr)
			return true
		})
		line.AddAttrs(clean.attrs(all)...)
	}
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
	if clean.forgot { // as all lines from now on
		return h
	}
	redacted := clean.attrs(attrs)
	return &jobLogHandler{log: h.log, own: h.own.WithAttrs(redacted), kept: h.kept.WithAttrs(redacted)}
}

// WithGroup has further attributes in a group.
func (h *jobLogHandler) WithGroup(name string) slog.Handler {
	clean := h.log.redactor()
	if clean.forgot {
		return h
	}
	name = clean.text(name)
	return &jobLogHandler{log: h.log, own: h.own.WithGroup(name), kept: h.kept.WithGroup(name)}
}

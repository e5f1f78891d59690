package pages

import (
	"context"
	"log/slog"

	"github.com/headgate/headgate/jobs/telemetry"
)

// seldom is a log that requests fill: everybody on this machine may send as many as they like.
// River's information, which is a line for each request that is wrong, is at level debug.
// Warnings and errors have one line a minute for each text, with how many were left out.
type seldom struct {
	next slog.Handler
	said *telemetry.Repeats
}

func newSeldom(log *slog.Logger) *slog.Logger {
	return slog.New(&seldom{log.Handler(), &telemetry.Repeats{}})
}

func level(of slog.Level) slog.Level {
	if of < slog.LevelWarn {
		return min(of, slog.LevelDebug)
	}
	return of
}

// Enabled says whether somebody takes lines of a level.
func (h *seldom) Enabled(ctx context.Context, l slog.Level) bool {
	return h.next.Enabled(ctx, level(l))
}

// Handle writes a line, or counts it.
func (h *seldom) Handle(ctx context.Context, r slog.Record) error {
	if r.Level = level(r.Level); r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
	}
	left, ok := h.said.Pass(r.Message, r.Time)
	if !ok {
		return nil
	}
	if left > 0 {
		r.AddAttrs(slog.Int("repeated", left))
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs has attributes in each line.
func (h *seldom) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &seldom{h.next.WithAttrs(attrs), h.said}
}

// WithGroup has further attributes in a group.
func (h *seldom) WithGroup(name string) slog.Handler { return &seldom{h.next.WithGroup(name), h.said} }

package worker

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
)

// endedLines bounds the lines about attempts that have ended. Those that failed have a bound
// of their own, so that a busy hour hides no failure.
type endedLines struct{ well, failed *bounded }

func newEndedLines(log *slog.Logger, perSecond int) endedLines {
	const hint = "of these the level is debug, or see `headgate job list` and `job show`"
	return endedLines{
		well: newBounded(perSecond, func(n int64) {
			log.Info("lines of ended attempts were left out", "left_out", n, "hint", hint)
		}),
		failed: newBounded(perSecond, func(n int64) {
			log.Warn("lines of failed attempts were left out", "left_out", n, "hint", hint)
		}),
	}
}

func (l endedLines) flush() {
	l.well.flush()
	l.failed.flush()
}

// level is the level of the line about an ended attempt.
func (l endedLines) level(well bool) slog.Level {
	level, bound := slog.LevelWarn, l.failed
	if well {
		level, bound = slog.LevelInfo, l.well
	}
	if bound.most == 0 || !bound.allow() {
		return slog.LevelDebug
	}
	return level
}

// logEnd writes the attempt's one line.
func (a *attempt) logEnd(ctx context.Context, o jobs.Outcome) {
	well := o.State == jobs.Succeeded || o.State == jobs.Snoozed && o.Class == ""
	level, log := a.w.lines.level(well), a.w.cfg.Logger
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := append(a.logAttrs(), "took", o.EndedAt.Sub(o.StartedAt).Round(time.Microsecond).String())
	if a.meta.Schedule != "" {
		attrs = append(attrs, "schedule", a.meta.Schedule)
	}
	if o.Class != "" {
		attrs = append(attrs, "class", o.Class)
	}
	if o.State != jobs.Succeeded {
		attrs = append(attrs, "error", o.Message)
	}
	log.Log(ctx, level, "job "+string(o.State), attrs...)
}

// logAttrs say in a line whose attempt it is about.
func (a *attempt) logAttrs() []any {
	attrs := make([]any, 0, 20)
	attrs = append(attrs, "tenant", a.info.Tenant.Slug, "database", a.info.Database, "kind", a.row.Kind, "job_uid", a.meta.UID, "attempt", a.row.Attempt)
	if id := a.traceID(); id != "" {
		attrs = append(attrs, "trace_id", id)
	}
	return attrs
}

// traceID is that of the attempt's trace; of its producer's, if the attempt is not traced;
// "" if neither is.
func (a *attempt) traceID() string {
	return cmp.Or(a.span.TraceID(), telemetry.TraceID(a.meta.TraceParent))
}

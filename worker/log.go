package worker

import (
	"context"
	"log/slog"
	"regexp"

	"github.com/headgate/headgate/jobs/telemetry"
)

// quiet is the logger that River gets, and with River our own code behind River's seam
// (package claim). It passes warnings and errors. River's are in our words, and each at most
// once a minute, with how often it came meanwhile; what handle says itself is left out.
func quiet(l *slog.Logger) *slog.Logger {
	return slog.New(&riversLines{next: l.Handler(), said: &telemetry.Repeats{}})
}

// riversOwn matches a line of River's, which begins with the name of its part.
var riversOwn = regexp.MustCompile(`^[A-Za-z.]+: ((?:[A-Z]|job |panic ).*)$`)

// riversWords are our words for River's lines, "" for those that are left out. Other lines
// of River's keep their words, behind "River: ".
var riversWords = map[string]string{
	"job cancelled remotely": "", // the attempt's own line says it

	"Error fetching jobs":                                                                 wordsClaim,
	"Error completing batch":                                                              wordsEnds,
	"Completer error (will retry after sleep)":                                            wordsEnds,
	"Hit maximum backlog; completions will wait until below threshold":                    "too many ends of attempts wait to be written; further ones wait with their slots",
	"Error running listener (will attempt reconnect after backoff)":                       wordsListen,
	"Error connecting listener":                                                           wordsListen,
	"Error from notification wait":                                                        wordsListen,
	"Error attempting to elect":                                                           wordsLeader,
	"Error attempting reelection":                                                         wordsLeader,
	"Error keeping leadership":                                                            wordsLeader,
	"Error attempting to resign":                                                          wordsLeader,
	"Current leader stepping down because the reelection deadline elapsed":                wordsLeader,
	"Current leader stepping down because the reelection deadline elapsed after an error": wordsLeader,
	"Error unlistening on topic":                                                          wordsListen,
	"Error on draining notification wait":                                                 wordsListen,
	"Error closing listener":                                                              wordsListen,
	"Dropping notification due to full buffer":                                            wordsDropped,
	"Queue control notification dropped due to full buffer":                               wordsDropped,
	"Job cancel notification dropped due to full buffer":                                  wordsDropped,
	"Too many errors; giving up":                                                          "the ends of attempts were given up after many trials; their jobs go to other attempts, which ask the tenants' ledgers",
	"Error fetching initial queue settings":                                               "the settings of a queue could not be read; trying again",
	"Queue status update, error updating in database":                                     "the row of a queue could not be renewed; trying again",
	"Producer status update, error updating in database":                                  "the row of a queue could not be renewed; trying again",
	"Error cleaning queues":                                                               "rows of queues that nobody uses could not be deleted; trying again",
	"Error starting queue maintainer":                                                     wordsMaintain,
	"Queue maintainer failed to start after all attempts, requesting leader resignation":  wordsMaintain,
	"Error cleaning jobs":                                                                 "the rows of jobs that ended long ago could not be deleted; trying again",
	"Error scheduling jobs":                                                               "jobs whose time has come could not be made available; trying again",
	"Error fetching queue settings":                                                       "the settings of a queue could not be read; trying again",
	"Error fetching job cancellation requests":                                            "requests to cancel jobs could not be read; trying again",
	"Soft stop timeout; cancelling remaining job contexts":                                "jobs still run at the end of StopTimeout; they are cancelled and go back",
}

const (
	wordsClaim    = "jobs could not be claimed; trying again"
	wordsEnds     = "the ends of attempts could not be written; trying again"
	wordsListen   = "the connection that hears of new work is lost; connecting again, and work is polled for meanwhile"
	wordsDropped  = "more notifications came than could be taken; what they told of is polled for"
	wordsMaintain = "the deletion of old rows could not be started; another worker tries"
	wordsLeader   = "which worker deletes old rows for all could not be decided; trying again"
)

type riversLines struct {
	next slog.Handler
	said *telemetry.Repeats
}

// Enabled passes warnings and errors.
func (h *riversLines) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.next.Enabled(ctx, level)
}

// Handle passes our own lines as they are.
func (h *riversLines) Handle(ctx context.Context, r slog.Record) error {
	match := riversOwn.FindStringSubmatch(r.Message)
	if match == nil {
		return h.next.Handle(ctx, r)
	}
	words, known := riversWords[match[1]]
	if !known {
		words = "River: " + match[1]
	}
	if words == "" {
		return nil
	}
	times, pass := h.said.Pass(words, r.Time)
	if !pass {
		return nil
	}
	line := slog.NewRecord(r.Time, r.Level, words, r.PC)
	r.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "err" {
			attr.Key = "error"
		}
		line.AddAttrs(attr)
		return true
	})
	if times > 0 {
		line.AddAttrs(slog.Int("repeated", times))
	}
	return h.next.Handle(ctx, line)
}

// WithAttrs has attributes in each line.
func (h *riversLines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &riversLines{next: h.next.WithAttrs(attrs), said: h.said}
}

// WithGroup has further attributes in a group.
func (h *riversLines) WithGroup(name string) slog.Handler {
	return &riversLines{next: h.next.WithGroup(name), said: h.said}
}

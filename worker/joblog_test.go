package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker"
)

func logsOf(t *testing.T, env *jobstest.Env, uid string) (all []jobs.LogLine) {
	t.Helper()
	for page := (jobs.Page{Limit: 7}); ; {
		list, next, err := env.Client.JobLogs(t.Context(), uid, page)
		require.NoError(t, err)
		if all = append(all, list...); next == "" {
			return all
		}
		page.After = next
	}
}

// linesOf are the lines of a log that have a message.
func linesOf(t *testing.T, text, msg string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &l))
		if l["msg"] == msg {
			found = append(found, l)
		}
	}
	return found
}

// What a handler of any form logs goes to the worker's own log with the job's attributes,
// and is kept with the job, also of an attempt that has failed and was rolled back.
func TestJobLog(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg, text := env.Config(), &logged{}
	cfg.Logger = lockedLogger(text)
	cfg.Middleware = []worker.Middleware{func(ctx context.Context, job jobs.Info, next func(context.Context) error) error {
		job.Log().Info("before")
		return next(ctx)
	}}
	logs := func(ctx context.Context, job *jobs.Info) error {
		job.Log().With("step", 1).WithGroup("charge").InfoContext(ctx, "charging", "amount", 7, slog.Group("card", "last", "4242"))
		job.Log().Debug("not kept")
		job.Log().Warn("refused", "error", errors.New("no funds"), "codes", []int{1, 2})
		if job.Attempt == 1 {
			return errors.New("once more")
		}
		return nil
	}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Transfer]) error { return logs(ctx, &job.Info) })
		worker.ReadOnly(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Reads]) error { return logs(ctx, &job.Info) })
		worker.OnConn(w, func(ctx context.Context, _ *pgx.Conn, job *jobs.Job[again]) error { return logs(ctx, &job.Info) })
		worker.NoConn(w, func(ctx context.Context, job *jobs.Job[Sums]) error { return logs(ctx, &job.Info) })
	})
	ctx := telemetry.WithTraceParent(t.Context(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	for _, args := range []jobs.Args{Transfer{}, Reads{}, again{}, Sums{}} {
		job, err := env.Client.Enqueue(ctx, "acme", args, nil)
		require.NoError(t, err)
		require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State, args.Kind())
		kept := logsOf(t, env, job.UID)
		require.Len(t, kept, 6, args.Kind())
		for i, l := range kept {
			require.Equal(t, 1+i/3, l.Attempt)
			require.Equal(t, []string{"before", "charging", "refused"}[i%3], l.Message)
			require.Equal(t, []string{"INFO", "INFO", "WARN"}[i%3], l.Level)
			require.Equal(t, "0af7651916cd43dd8448eb211c80319c", l.TraceID)
		}
		require.JSONEq(t, `{"step": 1, "charge": {"amount": 7, "card": {"last": "4242"}}}`, string(kept[1].Attrs))
		require.JSONEq(t, `{"error": "no funds", "codes": [1, 2]}`, string(kept[2].Attrs))
		own := 0
		for _, l := range linesOf(t, text.String(), "charging") {
			if l["job_uid"] != job.UID {
				continue
			}
			own++
			for key, want := range map[string]any{"tenant": "acme", "database": "acme", "kind": args.Kind(), "trace_id": "0af7651916cd43dd8448eb211c80319c", "step": 1.0} {
				require.Equal(t, want, l[key], key)
			}
			require.Contains(t, []any{1.0, 2.0}, l["attempt"])
		}
		require.Equal(t, 2, own)
	}
	require.Len(t, linesOf(t, text.String(), "not kept"), 8, "the worker's log takes debug")
}

// broken is a value whose own code panics.
type broken struct{}

func (*broken) Error() string               { panic("no text") }
func (broken) MarshalJSON() ([]byte, error) { panic("no JSON") }

// Says is a kind whose handler logs what it is told.
type Says struct {
	How string `json:"how"`
}

func (Says) Kind() string { return "says" }

// Whatever a handler logs, every end of the group is written, and an attempt keeps at most
// 16 KB: whole lines, and a last one that says how many were left out.
func TestNoLineHarmsAnEnd(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	cfg.Logger = quietLogger() // and yet the kit searches each line
	huge := strings.Repeat("\U0001F600", 1<<18)
	lines := map[string]func(*slog.Logger){
		"nul":      func(l *slog.Logger) { l.Info("a \x00 b", "k\x00", "v\x00") },
		"not-utf8": func(l *slog.Logger) { l.Info("a \xff b", "k\xff", "v\xff") },
		"huge": func(l *slog.Logger) {
			l.Info(huge, "text", huge[:4000], "bytes", []byte(huge[:4000]), "map", map[string]string{"a": huge[:4000]})
		},
		"many": func(l *slog.Logger) {
			for i := range 500 {
				l.Info("line", "i", i)
			}
		},
		"key":      func(l *slog.Logger) { l.Info("long key", huge[:100_000], 1) },
		"newlines": func(l *slog.Logger) { l.Info("a\nb\r\nc", "json", json.RawMessage("{\n\"a\": 1\n}")) },
		"broken": func(l *slog.Logger) {
			l.Info("broken", "error", (*broken)(nil), "json", broken{}, "nil", nil, "func", func() {})
		},
		"time":    func(l *slog.Logger) { l.Info("same names", "time", "x", "level", "y", "msg", "z") },
		"odd":     func(l *slog.Logger) { l.Info("odd", []any{"only a key"}...) },
		"nothing": func(*slog.Logger) {},
	}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Says]) error {
			lines[job.Args.How](job.Log())
			return nil
		})
	})
	many := make([]jobs.EnqueueParams, 0, 2*len(lines))
	for how := range lines {
		many = append(many, jobs.EnqueueParams{Tenant: "acme", Args: Says{How: how}}, jobs.EnqueueParams{Tenant: "acme", Args: Says{How: how}})
	}
	accepted, err := env.Client.EnqueueMany(t.Context(), many)
	require.NoError(t, err)
	for i, job := range accepted {
		how := many[i].Args.(Says).How //nolint:forcetypeassert // it is one
		require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State, how)
		kept, size := logsOf(t, env, job.UID), 0
		require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT coalesce(max(octet_length(lines)), 0) FROM headgate.job_logs WHERE job_uid = $1`, job.UID).Scan(&size))
		require.LessOrEqual(t, size, 16<<10, how)
		switch how {
		case "nothing":
			require.Empty(t, kept)
		case "many":
			require.Equal(t, fmt.Sprintf("%d further lines were left out: an attempt keeps 16 KB", 500-len(kept)+1), kept[len(kept)-1].Message)
			require.Greater(t, size, 15<<10)
			require.JSONEq(t, `{"i": 0}`, string(kept[0].Attrs))
		case "key":
			require.Len(t, kept, 1)
			require.Contains(t, kept[0].Message, "1 further lines were left out")
		case "newlines":
			require.Len(t, kept, 1)
			require.Equal(t, "a\nb\r\nc", kept[0].Message)
			require.JSONEq(t, `{"json": {"a": 1}}`, string(kept[0].Attrs))
		case "time":
			require.Equal(t, "same names", kept[0].Message)
			require.JSONEq(t, `{"time": "x", "level": "y", "msg": "z"}`, string(kept[0].Attrs))
		default:
			require.Equal(t, 1, len(kept), how) //nolint:testifylint // Len would print a megabyte
			require.True(t, json.Valid(kept[0].Attrs), how)
			require.NotEmpty(t, kept[0].Level)
		}
	}
}

// What a tenant's database says of its rows is in no line, however the handler logs it. A
// worker that is told to keep everything keeps it. Nor does Headgate log arguments.
func TestNoLineTellsAValueOfARow(t *testing.T) {
	t.Parallel()
	for _, detail := range []worker.ErrorDetail{worker.ErrorsRedacted, worker.ErrorsFull} {
		t.Run(string(detail), func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			email := jobstest.PlantedEmail
			if detail == worker.ErrorsFull {
				email = "ada@example.com" // which is told, and not for the whole suite to find
			}
			env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
			env.Tenant("acme", "acme")
			cfg, text := env.Config(), &logged{}
			cfg.ErrorDetail, cfg.Logger = detail, lockedLogger(text)
			heard := &tracker{}
			cfg.OnError = heard.hear
			w := env.Work(&cfg, func(w *worker.Worker) {
				worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
					_, err := tx.Exec(ctx, `SELECT $1::text::int`, email)
					log := job.Log()
					log.Error("as an error", "error", err)
					log.Error("wrapped", "error", fmt.Errorf("loading: %w", errors.Join(errors.New("sadly"), err)))
					log.Error(fmt.Sprintf("in the text: %v", err))
					log.Error("as a text", "error", err.Error())
					log.Error("in a group", slog.Group("g", "error", err))
					log.Error("in a value", "all", struct{ Err error }{err}, "list", []string{err.Error()})
					log.With("error", err).WithGroup("g").Error("before", "error", err.Error())
					return err
				})
			})
			job, err := env.Client.Enqueue(t.Context(), "acme", Ending{How: "argument-of-its-own"}, &jobs.EnqueueOpts{MaxAttempts: 1})
			require.NoError(t, err)
			require.Equal(t, jobs.Discarded, env.Wait(job.UID).State)
			require.NoError(t, w.Stop(t.Context()))
			kept, err := json.Marshal(logsOf(t, env, job.UID))
			require.NoError(t, err)
			require.Len(t, logsOf(t, env, job.UID), 7)
			told, err := json.Marshal(heard.of(job.UID)[0].end)
			require.NoError(t, err)
			for where, said := range map[string]string{"kept": string(kept), "log": text.String(), "tracker": string(told)} {
				require.Equal(t, detail == worker.ErrorsFull, strings.Contains(said, email), where)
				require.NotContains(t, said, "argument-of-its-own", where)
				if detail == worker.ErrorsRedacted {
					require.Contains(t, said, "invalid_text_representation", where)
				}
			}
		})
	}
}

// A handler that ignores the end of its context keeps what it had logged by then, and what
// it logs later reaches the worker's log only.
func TestLinesOfAStuckHandler(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg, text := env.Config(), &logged{}
	cfg.Logger, cfg.StuckAfter, cfg.Tenants.CancelWait = lockedLogger(text), 100*time.Millisecond, 50*time.Millisecond
	deaf := make(chan struct{})
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(_ context.Context, _ pgx.Tx, job *jobs.Job[Deaf]) error {
			job.Log().Info("in time")
			<-deaf
			job.Log().Info("too late")
			return nil
		})
	})
	got := env.Run("acme", Deaf{})
	require.Equal(t, jobs.ClassTimeout, got.Class)
	close(deaf)
	require.NoError(t, w.Stop(t.Context()))
	kept := logsOf(t, env, got.JobUID)
	require.Len(t, kept, 1)
	require.Equal(t, "in time", kept[0].Message)
}

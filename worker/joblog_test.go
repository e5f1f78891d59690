package worker_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// endless is a group that holds itself, and ouroboros an error that wraps itself.
type endless struct{}

func (endless) LogValue() slog.Value { return slog.GroupValue(slog.Any("again", endless{})) }

type ouroboros struct{}

func (ouroboros) Error() string   { return "I wrap myself" }
func (o ouroboros) Unwrap() error { return o }

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
		"time": func(l *slog.Logger) { l.Info("same names", "time", "x", "level", "y", "msg", "z") },
		"cycle": func(l *slog.Logger) {
			m, list := map[string]any{}, make([]any, 1)
			m["itself"], list[0] = m, list
			l.Info("holds itself", "map", m, "list", list, "valuer", endless{}, "error", ouroboros{}, "deep", json.RawMessage(strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)))
		},
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
			require.Contains(t, kept[0].Message, "1 further line was left out")
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

// shapes are how a handler may log what its server has said.
var shapes = map[string]func(*slog.Logger, error){
	"pointer": func(l *slog.Logger, err error) { s := err.Error(); l.Error("x", "v", &s) },
	"pointers in a list": func(l *slog.Logger, err error) {
		s := err.Error()
		l.Error("x", "v", []*string{nil, &s})
	},
	"pointers in a struct": func(l *slog.Logger, err error) {
		s := err.Error()
		l.Error("x", "v", &struct{ Inner *struct{ Said *string } }{&struct{ Said *string }{&s}})
	},
	"raw JSON": func(l *slog.Logger, err error) { l.Error("x", "v", json.RawMessage(jsonOf(err.Error()))) },
	"raw JSON, as an error has it": func(l *slog.Logger, err error) {
		var said *pgconn.PgError
		_ = errors.As(err, &said) // it is one
		l.Error("x", "v", json.RawMessage(jsonOf(said)))
	},
	"raw JSON, escaped": func(l *slog.Logger, err error) {
		raw := `"`
		for _, unit := range utf16.Encode([]rune(err.Error())) {
			raw += fmt.Sprintf(`\u%04x`, unit)
		}
		l.Error("x", "v", json.RawMessage(raw+`"`))
	},
	"JSON in a text":    func(l *slog.Logger, err error) { l.Error("x", "v", jsonOf(map[string]string{"said": err.Error()})) },
	"JSON in JSON":      func(l *slog.Logger, err error) { l.Error("x", "v", []string{jsonOf(jsonOf(err.Error()))}) },
	"quoted":            func(l *slog.Logger, err error) { l.Error(fmt.Sprintf("x %q", err.Error())) },
	"key":               func(l *slog.Logger, err error) { l.Error("x", err.Error(), 1) },
	"key of a map":      func(l *slog.Logger, err error) { l.Error("x", "v", map[string]int{err.Error(): 1}) },
	"group":             func(l *slog.Logger, err error) { l.WithGroup(err.Error()).Error("x", "v", 1) },
	"group of a line":   func(l *slog.Logger, err error) { l.Error("x", slog.Group(err.Error(), "v", 1)) },
	"key before":        func(l *slog.Logger, err error) { l.With(err.Error(), 1).Error("x") },
	"valuer":            func(l *slog.Logger, err error) { l.Error("x", "v", valuer{err}) },
	"valuer in a group": func(l *slog.Logger, err error) { l.Error("x", slog.Group("g", "v", &valuer{err})) },
	"bytes":             func(l *slog.Logger, err error) { l.Error("x", "v", []byte(err.Error())) },
	"bytes in a struct": func(l *slog.Logger, err error) {
		l.Error("x", "v", struct{ Said []byte }{[]byte(err.Error())})
	},
	"stringer":         func(l *slog.Logger, err error) { l.Error("x", "v", stringer{err}) },
	"own JSON":         func(l *slog.Logger, err error) { l.Error("x", "v", ownJSON{err}) },
	"own text":         func(l *slog.Logger, err error) { l.Error("x", "v", ownText{err}) },
	"JSON that panics": func(l *slog.Logger, err error) { l.Error("x", "v", ownJSON{}, "w", panics{err}) },
	"JSON that fails":  func(l *slog.Logger, err error) { l.Error("x", "v", fails{err}) },
}

// lineWith is the line of a shape.
func lineWith(text, shape string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, `"shape":"`+shape+`"`) {
			return line
		}
	}
	return ""
}

// tells says whether a text holds words, as they are, escaped, or as base64.
func tells(text, words string) bool {
	if strings.Contains(text, words) {
		return true
	}
	for _, word := range regexp.MustCompile(`[A-Za-z0-9+/=]{12,}`).FindAllString(text, -1) {
		if plain, err := base64.StdEncoding.DecodeString(word); err == nil && strings.Contains(string(plain), words) {
			return true
		}
	}
	return strings.Contains(regexp.MustCompile(`\\+u00[0-9a-f]{2}`).ReplaceAllStringFunc(text, func(escaped string) string {
		n, _ := strconv.ParseUint(escaped[len(escaped)-2:], 16, 8) // the pattern's
		return string(rune(n))
	}), words)
}

func jsonOf(v any) string {
	raw, _ := json.Marshal(v) // never fails
	return string(raw)
}

type valuer struct{ err error }

func (v valuer) LogValue() slog.Value { return slog.GroupValue(slog.Any("said", &v.err)) }

type stringer struct{ err error }

func (s stringer) String() string { return s.err.Error() }

type ownJSON struct{ err error }

func (o ownJSON) MarshalJSON() ([]byte, error) { return json.Marshal([]string{fmt.Sprint(o.err)}) }

type ownText struct{ err error }

func (o ownText) MarshalText() ([]byte, error) { return []byte(o.err.Error()), nil }

type panics struct{ err error }

func (p panics) MarshalJSON() ([]byte, error) { panic(p.err) }

type fails struct{ err error }

func (f fails) MarshalJSON() ([]byte, error) { return nil, f.err }

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
					for shape, say := range shapes {
						say(log.With("shape", shape), err)
					}
					return err
				})
			})
			job, err := env.Client.Enqueue(t.Context(), "acme", Ending{How: "argument-of-its-own"}, &jobs.EnqueueOpts{MaxAttempts: 1})
			require.NoError(t, err)
			require.Equal(t, jobs.Discarded, env.Wait(job.UID).State)
			require.NoError(t, w.Stop(t.Context()))
			kept, err := json.Marshal(logsOf(t, env, job.UID))
			require.NoError(t, err)
			require.Len(t, logsOf(t, env, job.UID), 7+len(shapes))
			if detail == worker.ErrorsFull { // the control: each shape does tell
				for shape := range shapes {
					require.True(t, tells(lineWith(text.String(), shape), email), shape)
					require.True(t, slices.ContainsFunc(logsOf(t, env, job.UID), func(l jobs.LogLine) bool {
						line := l.Message + string(l.Attrs)
						return strings.Contains(line, `"shape":"`+shape+`"`) && tells(line, email)
					}), shape)
				}
			}
			told, err := json.Marshal(heard.of(job.UID)[0].end)
			require.NoError(t, err)
			for where, said := range map[string]string{"kept": string(kept), "log": text.String(), "tracker": string(told)} {
				require.Equal(t, detail == worker.ErrorsFull, tells(said, email), where)
				require.NotContains(t, said, "argument-of-its-own", where)
				if detail == worker.ErrorsRedacted {
					require.Contains(t, said, "invalid_text_representation", where)
				}
			}
		})
	}
}

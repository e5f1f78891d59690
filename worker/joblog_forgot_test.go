package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// failTimes makes the server repeat a value in so many errors, and returns their texts.
func failTimes(ctx context.Context, tx pgx.Tx, times int, email string) (texts []string, last error) {
	for i := range times {
		inner, err := tx.Begin(ctx)
		if err != nil {
			return nil, err
		}
		_, last = inner.Exec(ctx, `SELECT ($1::text)::int`, fmt.Sprintf("%s %d", email, i))
		texts = append(texts, last.Error())
		if err := inner.Rollback(ctx); err != nil {
			return nil, err
		}
	}
	return texts, last
}

// Of a handler that goes on after more errors than are remembered, no line and no message
// tells what the first were. Level and time of a line stay, and what the last error was.
func TestNoLineTellsAForgottenError(t *testing.T) {
	t.Parallel()
	const sentence = "left out: the server has sent more than 16 errors in this attempt, and a text may have values of rows of those that are forgotten]"
	for _, x := range []struct {
		detail worker.ErrorDetail
		times  int
	}{{worker.ErrorsRedacted, 16}, {worker.ErrorsRedacted, 17}, {worker.ErrorsFull, 17}} {
		t.Run(fmt.Sprintf("%s %d", x.detail, x.times), func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			email := jobstest.PlantedEmail
			if x.detail == worker.ErrorsFull {
				email = "ada@example.com" // which is told, and not for the whole suite to find
			}
			env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
			env.Tenant("acme", "acme")
			cfg, text := env.Config(), &logged{}
			cfg.ErrorDetail, cfg.Logger = x.detail, lockedLogger(text)
			w := env.Work(&cfg, func(w *worker.Worker) {
				worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
					before := job.Log().With("before", "kept")
					texts, last := failTimes(ctx, tx, x.times, email)
					log := job.Log()
					log.Error("a text", "error", texts[0])
					log.Warn(texts[0])
					log.With(texts[0], texts[0]).WithGroup(texts[0]).Info("before", "error", last)
					before.Info("x", "error", texts[0])
					switch job.Args.How {
					case "words":
						return errors.New("loading: " + texts[0])
					case "words and an error":
						return fmt.Errorf("%s, and %w", texts[0], last)
					case "cancel":
						return jobs.Cancel(errors.New(texts[0]))
					}
					panic(texts[0])
				})
			})
			for _, how := range []string{"words", "words and an error", "cancel", "panic"} {
				job, err := env.Client.Enqueue(t.Context(), "acme", Ending{How: how}, &jobs.EnqueueOpts{MaxAttempts: 1})
				require.NoError(t, err)
				ended := env.Wait(job.UID)
				lines := logsOf(t, env, job.UID)
				require.Len(t, lines, 4)
				kept, err := json.Marshal(lines)
				require.NoError(t, err)
				require.Equal(t, x.detail == worker.ErrorsFull, tells(string(kept), email), "%s", kept)
				require.Equal(t, x.detail == worker.ErrorsFull, tells(ended.Message, email), ended.Message)
				for i, level := range []string{"ERROR", "WARN", "INFO", "INFO"} {
					require.Equal(t, level, lines[i].Level)
					require.WithinDuration(t, time.Now(), lines[i].At, time.Hour)
					if x.times > 16 && x.detail == worker.ErrorsRedacted {
						require.Equal(t, "[the line is "+sentence, lines[i].Message)
					} else {
						require.NotContains(t, lines[i].Message, "left out")
					}
				}
				require.JSONEq(t, `"kept"`, string(attrOf(t, lines[3], "before")))
				if x.times > 16 && x.detail == worker.ErrorsRedacted {
					require.Contains(t, ended.Message, "[the text is "+sentence, how)
				}
				if how == "words and an error" {
					require.Contains(t, ended.Message, map[bool]string{true: "invalid input syntax", false: "ERROR: invalid_text_representation (SQLSTATE 22P02)"}[x.detail == worker.ErrorsFull])
				}
			}
			require.NoError(t, w.Stop(t.Context()))
			require.Equal(t, x.detail == worker.ErrorsFull, tells(text.String(), email))
		})
	}
}

func attrOf(t *testing.T, line jobs.LogLine, name string) json.RawMessage {
	t.Helper()
	var attrs map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(line.Attrs, &attrs))
	return attrs[name]
}

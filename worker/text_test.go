package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// Telling makes the server repeat a value, and a handler pass it on in some way.
type Telling struct {
	How string `json:"how"`
}

func (Telling) Kind() string { return "test.telling" }

// telling has a person's address in a row of each of two tenants.
func telling(email string) string {
	return strings.ReplaceAll(tellingSchema, "ada@example.com", email)
}

const tellingSchema = `
CREATE TABLE people (org_id bigint, email text, born timestamptz);
INSERT INTO people VALUES (1, 'ada@example.com', now() - interval '9 years'), (2, 'ada@example.com', now() - interval '9 years');
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'keep %', OLD.email USING DETAIL = OLD.email; END $$;
CREATE TRIGGER keep BEFORE DELETE ON people FOR EACH ROW EXECUTE FUNCTION keep();
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON people TO headgate_job USING (org_id = headgate.current_org());
GRANT SELECT, DELETE ON people TO headgate_job`

func tell(ctx context.Context, tx pgx.Tx, job *jobs.Job[Telling]) error {
	_, err := tx.Exec(ctx, `SELECT email::int FROM people`)
	switch job.Args.How {
	case "words":
		return fmt.Errorf("loading people: %v", err) //nolint:errorlint // that is what is tried
	case "wrapped":
		return fmt.Errorf("loading people: %w", errors.Join(errors.New("sadly"), err))
	case "panic":
		panic(err)
	case "panic in words":
		panic(err.Error())
	case "cancel":
		return jobs.Cancel(err)
	}
	return err
}

// logged is what a worker logs, for reading meanwhile.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A value that a tenant's database repeats stands nowhere: not in the history, the queue
// or a log, whichever kind has met it and however a handler wraps it. A worker that is
// told to keep everything keeps it.
func TestValuesOfRowsAreNotKept(t *testing.T) {
	t.Parallel()
	for _, detail := range []worker.ErrorDetail{"", worker.ErrorsRedacted, worker.ErrorsFull} {
		t.Run(string(detail), func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			email := jobstest.PlantedEmail
			if detail == worker.ErrorsFull {
				email = "ada@example.com" // which is told, and not for the whole suite to find
			}
			env.Database("db", jobstest.DatabaseOpts{Schema: telling(email), Observed: "its trigger is to tell what its rows hold"})
			env.Tenant("acme", "db")
			cfg, log := env.Config(), &logged{}
			cfg.Queues = map[string]int{"default": 2, jobs.BulkQueue: 2}
			cfg.ErrorDetail, cfg.Logger = detail, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			reports, err := report.OpenFolder(t.TempDir())
			require.NoError(t, err)
			t.Cleanup(func() { _ = reports.Close() })
			env.Work(&cfg, func(w *worker.Worker) {
				worker.InTx(w, tell)
				worker.ReadOnly(w, report.New(reports))
				worker.InTx(w, sqlscript.Run)
				worker.InTx(w, maintenance.RunPurge)
			})
			for name, args := range map[string]jobs.Args{
				"bare": Telling{}, "words": Telling{"words"}, "wrapped": Telling{"wrapped"}, "panic": Telling{"panic"}, "panic in words": Telling{"panic in words"}, "cancel": Telling{"cancel"},
				"sql":    sqlscript.Args{Statements: []sqlscript.Statement{{SQL: "SELECT email::int FROM people"}}},
				"param":  sqlscript.Args{Statements: []sqlscript.Statement{{SQL: "DELETE FROM people"}}},
				"report": report.Args{Query: "SELECT email::int FROM people", Name: "people"},
				"purge":  maintenance.Purge{Table: "people", Column: "born", OlderThan: "30d"},
			} {
				result, err := env.Client.Enqueue(context.Background(), "acme", args, &jobs.EnqueueOpts{MaxAttempts: 1})
				require.NoError(t, err, name)
				ended := env.Wait(result.UID)
				if ended.Class != jobs.ClassPanic && name != "cancel" {
					require.Equal(t, jobs.ClassJobError, ended.Class, "%s: %s", name, ended.Message)
				}
				require.Regexp(t, `^(22P02|P0001)?$`, ended.SQLState)
				want := map[bool]string{true: email, false: map[bool]string{true: "raise_exception", false: "invalid_text_representation"}[name == "param" || name == "purge"]}[detail == worker.ErrorsFull]
				require.Contains(t, ended.Message, want, name)
			}
			var everything string
			require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT (SELECT string_agg(o::text, '') FROM headgate.outcomes o) || (SELECT string_agg(j::text, '') FROM river_job j)`).Scan(&everything))
			everything += log.String()
			require.Equal(t, detail == worker.ErrorsFull, strings.Contains(everything, email), everything)
		})
	}
	_, err := worker.New(worker.Config{ErrorDetail: "loud", Pool: jobstest.New(t).Pool, Resolver: jobstest.New(t).Catalog})
	require.EqualError(t, err, `worker.Config.ErrorDetail "loud": give one of redacted, full, or nothing for redacted`)
}

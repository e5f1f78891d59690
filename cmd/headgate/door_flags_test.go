package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// nobody is a command line without a database that answers: what it refuses is
// refused before anybody is asked.
func nobody(t *testing.T) *commandLine {
	t.Helper()
	return newCLI(t, "postgres://u:s3cret@127.0.0.1:1/nowhere")
}

// What is given as nothing is not taken as not given.
func TestNothingIsNotTheDefault(t *testing.T) {
	t.Parallel()
	c := nobody(t)
	c.fails(cli.ExitUsage, []string{"server", "set", "eu-1", "--budget", "0"}, "--budget is 0: give 1 to 10000")
	c.fails(cli.ExitUsage, []string{"server", "add", "eu-1", "--host", "db1.example.com", "--budget", "0"}, "--budget is 0")
	c.fails(cli.ExitUsage, []string{"tenant", "add", "acme", "--database", "db", "--org-id", "0"}, `--org-id is 0: give 1 or more`)
	const zero = "0001-01-01T00:00:00Z"
	for _, flag := range []string{"--start", "--end", "--from"} {
		c.fails(cli.ExitUsage, []string{"schedule", "preview", "--cron", "@daily", flag, zero}, flag+`: "`+zero+`" is the zero time`)
	}
	enqueue := []string{"job", "enqueue", "app.tick", "--tenant", "acme"}
	c.fails(cli.ExitUsage, append(enqueue, "--run-at", zero), "--run-at: ")
	c.fails(cli.ExitUsage, append(enqueue, "--in", "0s"), "--in is 0s: give a duration of more than 0, such as 30s or 5m")
	c.fails(cli.ExitUsage, append(enqueue, "--in", "-1h"), "--in is -1h")
	c.fails(cli.ExitUsage, append(enqueue, "--in", "1h", "--run-at", "2027-01-01T00:00:00Z"), "give one of --run-at and --in")
	c.fails(cli.ExitUsage, append(enqueue, "--idempotency-key", ""), `--idempotency-key: "" does not fit`)
	c.fails(cli.ExitUsage, append(enqueue, "--args", `{"a": 1, "b": [{"c": 1, "a": {"d": 2}}, {"c": 2}], "a": 3}`), `args.a is given twice`)
	c.fails(cli.ExitUsage, append(enqueue, "--args", `{"b": [1, {"x": "x", "x": "y"}]}`), `x is given twice`)
}

func TestVersionIsAFlagToo(t *testing.T) {
	t.Parallel()
	c := nobody(t)
	version := struct{ Version string }{}
	require.NoError(t, json.Unmarshal([]byte(c.ok("version", "-o", "json")), &version))
	require.Equal(t, "headgate version "+version.Version+"\n", c.ok("--version"))
}

// The kind of a database is looked at before its addresses are asked for.
func TestTheKindOfADatabaseComesFirst(t *testing.T) {
	t.Parallel()
	nobody(t).fails(cli.ExitUsage, []string{"database", "add", "db", "--server", "eu-1", "--kind", "sharedd"}, `--kind: "sharedd" is not one of shared, dedicated (did you mean shared?)`)
}

func TestEnqueueNamesTheNearestOwner(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("acme-db", jobstestShared)
	env.Tenant("acme", "acme-db")
	c.fails(cli.ExitNotFound, []string{"job", "enqueue", "app.tick", "--tenant", "acmee"}, "did you mean acme?", "`headgate tenant list` shows them")
	c.fails(cli.ExitNotFound, []string{"job", "enqueue", "headgate.analyze", "--database", "acme-bd"}, "did you mean acme-db?", "`headgate database list` shows them")
	c.fails(cli.ExitNotFound, []string{"schedule", "create", "s", "--tenant", "acmee", "--kind", "app.tick", "--cron", "@daily"}, "did you mean acme?")
	c.fails(cli.ExitNotFound, []string{"tenant", "add", "brick", "--database", "acme-bd"}, "did you mean acme-db?", "`headgate database list` shows them")
	r := c.run("tenant", "list", "--plan", "nope")
	require.Contains(t, r.err, "no tenant is like that: `headgate tenant list` shows all")
}

// A job may be asked for in ten minutes, and once under a key.
func TestEnqueueInAWhileAndUnderAKey(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	enqueue := func(more ...string) (view struct{ UID string }) {
		require.NoError(t, json.Unmarshal([]byte(c.ok(append([]string{"job", "enqueue", "app.tick", "--tenant", "acme", "-o", "json"}, more...)...)), &view))
		return view
	}
	before := time.Now()
	first := enqueue("--in", "10m", "--idempotency-key", "invoice-7")
	job, err := env.Client.Job(t.Context(), first.UID)
	require.NoError(t, err)
	require.WithinRange(t, job.ScheduledAt.Time, before.Add(10*time.Minute-time.Millisecond), time.Now().Add(10*time.Minute))
	again := enqueue("--idempotency-key", "invoice-7")
	require.Equal(t, first.UID, again.UID)
	c.fails(cli.ExitConflict, []string{"job", "enqueue", "app.tick", "--tenant", "acme", "--idempotency-key", "invoice-7", "--args", `{"n": 2}`}, first.UID)
	require.Equal(t, "1", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT count(*) FROM river_job"))
}

// The words of outcomes select the jobs that the queue has other words for.
func TestJobListTakesTheWordsOfOutcomes(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	for range 4 {
		c.ok("job", "enqueue", "app.tick", "--tenant", "acme")
	}
	_, err := env.Pool.Exec(t.Context(), `UPDATE river_job SET state = (ARRAY['available', 'completed', 'retryable', 'scheduled'])[id]::river_job_state, finalized_at = CASE WHEN id = 2 THEN now() END`)
	require.NoError(t, err)
	for word, want := range map[string]int64{"succeeded": 2, "failed": 3, "snoozed": 4, "scheduled": 4, "waiting": 1} {
		var found []struct{ UID string }
		require.NoError(t, json.Unmarshal([]byte(c.ok("job", "list", "--state", word, "-o", "json")), &found))
		require.Len(t, found, 1, word)
		require.Equal(t, env.UIDOf(want), found[0].UID, word)
	}
	c.fails(cli.ExitUsage, []string{"job", "list", "--state", "succeedde"}, `--state: "succeedde" is not one of waiting`, "did you mean succeeded?")
	c.fails(cli.ExitUsage, []string{"job", "list", "--state", "completed"}, `--state: "completed" is not one of waiting, scheduled, running,`)
}

// A file with a password that others may read is told of, and taken.
func TestASecretFileThatOthersMayReadIsToldOf(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	c := newCLI(t, env.URL)
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte(env.URL+"\n"), 0o600))
	c.set("DATABASE_URL", "")
	c.set("DATABASE_URL_FILE", file)
	require.NotContains(t, c.run("tenant", "list").err, "warning")
	require.NoError(t, os.Chmod(file, 0o644))
	r := c.run("tenant", "list")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "warning: DATABASE_URL_FILE: the file")
	require.Contains(t, r.err, "has mode 0644, so others on this machine can read the password: run chmod 600 "+file)
}

// What providers write into their strings is answered with what to delete.
func TestTheCentralStringOfAProvider(t *testing.T) {
	t.Parallel()
	c := newCLI(t, "postgres://u:s3cret@127.0.0.1:1/db?pgbouncer=true")
	c.fails(cli.ExitUsage, []string{"tenant", "list"}, `DATABASE_URL: Postgres has no option "pgbouncer": delete it from the connection string`)
	c = newCLI(t, "postgres://u:s3cret@127.0.0.1:1/db?channel_binding=prefer")
	c.fails(cli.ExitUnreachable, []string{"tenant", "list"}, "does not answer")
}

// What a spreadsheet would run or cut is guarded in csv.
func TestCellsOfCSVAreGuarded(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db", "--name", "x;=HYPERLINK(1)")
	require.Contains(t, c.ok("tenant", "list", "-o", "csv"), `,"x;=HYPERLINK(1)",`)
	require.NotContains(t, c.ok("tenant", "show", "acme", "-o", "csv"), "'-", "what is not there is an empty cell")
}

// The first line of explain shows no control character of a kind that another client
// has written.
func TestExplainPrintsNoControlCharacters(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.ok("job", "enqueue", "app.tick", "--tenant", "acme")
	_, err := env.Pool.Exec(t.Context(), `UPDATE river_job SET kind = E'app\x1b[31mtick'`)
	require.NoError(t, err)
	require.NotContains(t, c.ok("job", "explain", env.UIDOf(1)), "\x1b")
}

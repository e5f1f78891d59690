package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker"
)

var jobstestShared = jobstest.DatabaseOpts{Kind: "shared"}

// The shapes of all lists in JSON, as programs read them.
func TestShapes(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	for _, noun := range []string{"tenant", "database", "job", "schedule"} {
		require.Equal(t, "[]\n", c.ok(noun, "list", "-o", "json"), "an empty list is a list")
		require.Empty(t, c.ok(noun, "list", "-o", "jsonl"))
		empty := c.run(noun, "list")
		require.Empty(t, empty.out)
		require.Contains(t, empty.err, "headgate "+noun, "an empty list says what to do")
	}
	env.Database("db", jobstestShared)
	golden(t, "server_list", c.ok("server", "list", "-o", "json"))
	golden(t, "server_add", c.ok("server", "add", "eu-1", "--host", "DB1.example.com.", "--host", "10.1.2.3", "-o", "json"))
	golden(t, "tenant_add", c.ok("tenant", "add", "acme", "--database", "db", "--org-id", "7", "--name", "Acme & Söhne", "--plan", "enterprise",
		"--timezone", "Europe/Berlin", "--label", "tier=gold", "--label", "note=a=b,c", "--domain", "acme.example", "--subdomain", "acme.saas.example", "-o", "json"))
	c.ok("tenant", "add", "bolt", "--database", "db")
	golden(t, "tenant_list", c.ok("tenant", "list", "-o", "json"))
	golden(t, "database_list", c.ok("database", "list", "-o", "json"))

	golden(t, "schedule_create", c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "headgate.purge", "--cron", "30 2 * * *",
		"--args", `{"table": "events", "column": "at", "older_than": "90d"}`, "-o", "json"))
	golden(t, "schedule_pause", c.ok("schedule", "pause", "nightly", "--tenant", "acme", "--note", "moving", "-o", "json"))
	golden(t, "schedule_list_paused", c.ok("schedule", "list", "--tenant", "7", "-o", "json"))
	golden(t, "schedule_resume", c.ok("schedule", "resume", "nightly", "--tenant", "acme", "-o", "json"))
	golden(t, "schedule_list", c.ok("schedule", "list", "-o", "json"))

	golden(t, "job_enqueue", c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT nonsense"}`,
		"--max-attempts", "1", "--tag", "monthly", "--tag", "for_accounting", "--priority", "2", "--timeout", "30s", "-o", "json"))
	golden(t, "job_show_waiting", c.ok("job", "show", firstJob(t, c).UID, "-o", "json"))
	work(env)
	job := firstJob(t, c)
	env.Wait(job.UID)
	golden(t, "job_show", c.ok("job", "show", job.UID, "-o", "json"))
	golden(t, "job_list", c.ok("job", "list", "-o", "json"))
	golden(t, "version", c.ok("version", "-o", "json"))

	for _, lines := range []string{c.ok("tenant", "list", "-o", "jsonl"), c.ok("job", "list", "-o", "jsonl")} {
		for line := range strings.Lines(lines) {
			require.True(t, json.Valid([]byte(line)), line)
		}
	}
}

// work runs built-in kinds in this process, reports into nowhere.
func work(env *jobstest.Env) {
	env.Work(nil, func(w *worker.Worker) { kinds.Register(w, nil, centreOf(env)) })
}

// centreOf is what built-in kinds use of a test's central database.
func centreOf(env *jobstest.Env) kinds.Centre {
	return kinds.Centre{Catalog: env.Catalog, Importer: importer.New(env.Pool, env.Catalog), Client: env.Client}
}

type listedJob struct{ UID, State string }

func firstJob(t *testing.T, c *commandLine) listedJob {
	t.Helper()
	var listed []listedJob
	require.NoError(t, json.Unmarshal([]byte(c.ok("job", "list", "-o", "json")), &listed))
	require.NotEmpty(t, listed)
	return listed[0]
}

func TestTable(t *testing.T) {
	t.Parallel()
	type row struct {
		Name string
		At   *time.Time
		Note string
	}
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	rows := []row{{"long-name", &at, "=HYPERLINK(\"x\")"}, {"ö", nil, "red \x1b[31m\nline \u202e"}, {"-2", nil, ""}}
	columns := []cli.Column[row]{
		{Name: "name", Of: func(r row) any { return r.Name }},
		{Name: "at_time", Of: func(r row) any { return r.At }},
		{Name: "note", Of: func(r row) any { return r.Note }},
	}
	print := func(format, zone string) string {
		var out bytes.Buffer
		app := cli.New("headgate", nil, &out, &out, []string{"TZ=" + zone})
		app.Output = format
		require.NoError(t, cli.List(app, rows, "", columns))
		return out.String()
	}
	require.Equal(t, ""+
		"NAME       AT TIME                   NOTE\n"+
		"long-name  2026-07-01 14:00:00 CEST  =HYPERLINK(\"x\")\n"+
		"ö          -                         red \uFFFD[31m line \uFFFD\n"+
		"-2         -                         -\n", print("table", "Europe/Berlin"))
	require.Equal(t, ""+
		"name,at_time,note\n"+
		"long-name,2026-07-01T12:00:00Z,\"'=HYPERLINK(\"\"x\"\")\"\n"+
		"ö,,\"red \x1b[31m\nline \u202e\"\n"+
		"'-2,,\n", print("csv", "Europe/Berlin"))
}

// Data goes to stdout and nothing else does.
func TestStdoutIsData(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	r := c.run("schedule", "create", "both", "--tenant", "acme", "--kind", "app.x", "--cron", "0 0 1 1 MON", "-o", "json")
	require.Zero(t, r.code, r.err)
	require.True(t, json.Valid([]byte(r.out)), r.out)
	require.Contains(t, r.err, "warning: ")
	require.Contains(t, r.err, "fires ")
	require.Contains(t, r.err, "note: \"app.x\" is no built-in kind")

	c.ok("job", "enqueue", "app.y", "--tenant", "acme", "--args", `{"text": "<&>"}`)
	require.Contains(t, c.ok("job", "list", "-o", "json"), `"<&>"`)
	table := c.ok("job", "show", firstJob(t, c).UID)
	require.Regexp(t, `(?m)^kind +app\.y$`, table)
	require.Regexp(t, `(?m)^args +\{"text": ?"<&>"\}$`, table)
}

// Pages of a list follow each other without a gap.
func TestLongLists(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	admin(t, env.Pool.Config().ConnConfig.Database, `
		INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind)
		SELECT gen_random_uuid(), i, 't' || lpad(i::text, 5, '0'), 't', d.id, d.kind FROM generate_series(1, 2500) i, headgate.databases d`)
	require.Equal(t, 2500, strings.Count(c.ok("tenant", "list", "-o", "jsonl"), "\n"))
	require.Equal(t, 1700, strings.Count(c.ok("tenant", "list", "-o", "jsonl", "--limit", "1700"), "\n"))
	require.Equal(t, 1000, strings.Count(c.ok("tenant", "list", "-o", "jsonl", "--limit", "1000"), "\n"))
	require.Equal(t, 2501, strings.Count(c.ok("tenant", "list", "-o", "csv"), "\n"))
	_, err := env.Pool.Exec(context.Background(), `
		INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone)
		SELECT gen_random_uuid(), id, 's', 'k', '@daily', 'UTC' FROM headgate.tenants`)
	require.NoError(t, err)
	require.Equal(t, 2500, strings.Count(c.ok("schedule", "list", "-o", "jsonl", "--limit", "0"), "\n"))
	require.Equal(t, 2500, strings.Count(c.ok("schedule", "list", "-o", "jsonl", "--limit", "2500"), "\n"))
	first := c.run("schedule", "list", "-o", "jsonl")
	require.Equal(t, 1000, strings.Count(first.out, "\n"))
	require.Contains(t, first.err, "there are more than these 1000: add --after ")
	require.NotContains(t, c.run("schedule", "list", "-o", "jsonl", "--limit", "2500").err, "more")
}

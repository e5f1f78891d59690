package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// What no attempt could work with is refused on the command line with exit code 2,
// before anything is asked of a database, and in files and edits too.
func TestArgumentsAreCheckedOnTheCommandLine(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	good := `{"table": "events", "column": "at", "older_than": "90d"}`
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "headgate.purge", "--cron", "@daily", "--args", good)
	c.ok("schedule", "create", "all", "--select", "all", "--kind", "headgate.purge", "--cron", "@daily", "--args", good)
	for _, bad := range []struct{ kind, args, want string }{
		{"headgate.purge", `{}`, `args of kind headgate.purge: table "": want name or schema.name`},
		{"headgate.purge", `{"table": "a b", "column": "x", "older_than": "soon"}`, `args of kind headgate.purge: table "a b": want name`},
		{"headgate.purge", `{"table": "a", "column": "x", "older_than": "soon"}`, `older_than "soon": write a whole number with its unit, hours or days: "36h" or "90d"`},
		{"headgate.report", `{}`, `args of kind headgate.report: query is empty: write one SELECT`},
		{"headgate.report", `{"name": "../x", "query": "SELECT 1"}`, `name "../x": write 1 to 64 of a-z, 0-9 and -`},
		{"headgate.report", `{"name": "x", "query": "delete from events"}`, `query begins with DELETE: a report is one SELECT`},
		{"headgate.sql", `{"sql": "COMMIT"}`, `args of kind headgate.sql: statement 1: transaction control is not allowed`},
		{"headgate.sql", `{"sql": "SELECT $1", "params": [{"type": "int", "value": "s3cret"}]}`, `statement 1, parameter 1`},
	} {
		for _, verb := range [][]string{
			{"job", "enqueue", bad.kind, "--tenant", "acme"},
			{"schedule", "create", "new", "--tenant", "acme", "--kind", bad.kind, "--cron", "@daily"},
			{"schedule", "create", "new", "--select", "all", "--kind", bad.kind, "--cron", "@daily"},
			{"schedule", "edit", "nightly", "--tenant", "acme", "--kind", bad.kind},
			{"schedule", "edit", "all", "--template", "--kind", bad.kind},
		} {
			c.fails(cli.ExitUsage, append(verb, "--args", bad.args), bad.want)
		}
	}
	nowhere := newCLI(t, "postgres://u:s3cret@127.0.0.1:1/nowhere")
	nowhere.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.report", "--tenant", "acme"}, "query is empty")
	c.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.analyze", "--database", "db", "--args", `{"tables": ["a", "b c"]}`}, `tables[1]: table "b c": want name`)
	c.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.vacuum", "--database", "db", "--args", `{"tables": [""]}`}, `tables[0]: table ""`)
	path := filepath.Join(t.TempDir(), "schedules.yaml")
	for text, want := range map[string]string{
		"name: x\nschedules: [{name: a, kind: headgate.purge, cron: '@daily', select: all, args: {table: a, column: b, older_than: 9 days}}]":                                               `schedule "a": args of kind headgate.purge: older_than "9 days"`,
		"name: x\nschedules: [{name: a, kind: headgate.report, cron: '@daily', select: all}]":                                                                                               `query is empty`,
		"name: x\nschedules: [{name: a, kind: headgate.report, cron: '@daily', select: all, args: {name: r, query: SELECT 1}, overrides: {acme: {args: {name: '../r', query: SELECT 1}}}}]": `override for acme: args of kind headgate.report: name "../r"`,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		c.fails(cli.ExitUsage, []string{"schedule", "plan", "-f", path}, want)
		c.fails(cli.ExitUsage, []string{"schedule", "apply", "-f", path}, want)
	}
	central := env.Pool.Config().ConnConfig.Database
	require.Equal(t, "0", ask(t, central, "SELECT count(*) FROM river_job"))
	require.Equal(t, "2", ask(t, central, "SELECT count(*) FROM headgate.schedules"))
	require.Equal(t, "1", ask(t, central, "SELECT count(*) FROM headgate.fleets"))

	// What another client has stored is looked at before it is run again.
	c.ok("job", "enqueue", "headgate.purge", "--tenant", "acme", "--args", good)
	_, err := env.Pool.Exec(t.Context(), `UPDATE river_job SET args = '{"table": "a"}'`)
	require.NoError(t, err)
	c.fails(cli.ExitUsage, []string{"job", "rerun", env.UIDOf(1)}, `args of kind headgate.purge: column "": want 1 to 63 letters`)
}

// What is said of a new schedule has the seconds that it fires at, and warns of steps
// that do not come out even.
func TestASchedulesFirstTimesAreToldToTheSecond(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	create := func(name, cron string) string {
		r := c.run("schedule", "create", name, "--tenant", "acme", "--kind", "app.tick", "--cron", cron, "--zone", "UTC")
		require.Equal(t, cli.ExitOK, r.code, r.err)
		return r.err
	}
	require.Regexp(t, `fires \w+ [0-9-]+ \d\d:\d\d:\d0 UTC, .* \d\d:\d\d:\d0 UTC, …`, create("often", "@every 10s"))
	require.Regexp(t, `fires \w+ [0-9-]+ \d\d:\d\d UTC, `, create("nightly", "0 3 * * *"))
	require.Contains(t, create("uneven", "*/45 * * * *"), "warning: minute */45 fires at minutes 0 and 45 of each hour, not every 45 minutes")
	r := c.run("schedule", "preview", "--cron", "*/45 * * * *")
	require.Contains(t, r.err, "warning: minute */45 fires at minutes 0 and 45 of each hour")
	require.Contains(t, create("sunday", "47 6 * * 7"), "fires Sun ")
}

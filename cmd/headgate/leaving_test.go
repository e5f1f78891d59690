package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// Whoever takes a tenant out of use learns how many of its jobs wait, are cancelled, and run.
func TestTheJobsOfALeaverAreCounted(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	require.NotContains(t, c.run("tenant", "suspend", "acme", "--dry-run").err, "waiting")
	for _, more := range [][]string{nil, nil, {"--in", "1h"}, {"--tag", "runs"}} {
		c.ok(append(aReport, more...)...)
	}
	execute(t, env.URL, `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() WHERE 'runs' = ANY (tags)`)

	r := c.run("tenant", "remove", "acme", "--dry-run")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.out, "2 waiting jobs, 1 scheduled job")
	require.Contains(t, r.err, "1 job runs, and ends as it would")
	var removals []map[string]any
	require.NoError(t, json.Unmarshal([]byte(c.ok("tenant", "remove", "acme", "--dry-run", "-o", "json")), &removals))
	require.Equal(t, []any{2.0, 1.0, 1.0}, []any{removals[0]["waiting_jobs"], removals[0]["scheduled_jobs"], removals[0]["running_jobs"]})

	r = c.run("tenant", "archive", "acme", "--dry-run")
	require.Contains(t, r.err, "waiting and scheduled: 3 jobs, which would be cancelled")
	require.Contains(t, r.err, "1 job runs, and ends as it would")
	require.Contains(t, c.run("tenant", "suspend", "acme").err, "waiting and scheduled: 3 jobs, held until `headgate tenant resume`")
	require.Contains(t, c.run("tenant", "suspend", "-l", "status = suspended", "--waiting", "cancel").err, "waiting and scheduled: 3 jobs, which `headgate serve` cancels")
	require.NotContains(t, c.run("tenant", "resume", "acme").err, "waiting and scheduled")
}

// A server that drains is drained again without a word: the reason stays. A tenant that would
// lie there is told of the draining.
func TestADrainedServerKeepsItsReasonAndIsNamed(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("server", "drain", jobstest.Server, "--reason", "new disks")
	c.ok("server", "drain", jobstest.Server)
	require.Contains(t, c.ok("server", "show", jobstest.Server), "new disks")
	c.fails(cli.ExitConflict, []string{"tenant", "add", "acme"}, "database db takes plan", "server "+jobstest.Server+" is draining: `headgate server resume "+jobstest.Server+"` opens the server")
	c.ok("server", "resume", jobstest.Server)
	require.NotContains(t, c.ok("server", "show", jobstest.Server), "new disks")
	c.ok("tenant", "add", "acme")
}

// The command that lets a further plan in leaves those that are in, and a plan that nobody has
// made is told.
func TestPlansOfADatabaseAreKeptByTheAdvice(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("plan", "set", "pro")
	c.ok("plan", "set", "gold")
	require.Contains(t, c.run("database", "set", "db", "--plan", "proo").err, "warning: there is no plan \"proo\" (did you mean pro?)")
	require.NotContains(t, c.run("database", "set", "db", "--plan", "pro").err, "warning")
	r := c.run("tenant", "add", "acme", "--plan", "gold")
	require.Equal(t, cli.ExitConflict, r.code, r.err)
	do := command(t, r.err)
	require.Equal(t, []string{"database", "set", "db", "--plan", "pro", "--plan", "gold"}, do)
	c.ok(do...)
	c.ok("tenant", "add", "acme", "--plan", "gold")
	c.ok("tenant", "add", "globex", "--plan", "pro")
}

// So it is with an import, whose last line names the plans of all of its lines.
func TestPlansOfADatabaseAreKeptByTheAdviceOfAnImport(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for _, plan := range []string{"pro", "gold", "tin"} {
		c.ok("plan", "set", plan)
	}
	c.ok("database", "set", "db", "--plan", "pro")
	file := inFile(t, "tenants.csv", "slug,plan\nacme,gold\nbrick,tin\ncoal,\n")
	r := c.run("tenant", "import", file, "--database", "db")
	require.Equal(t, cli.ExitUsage, r.code, r.err)
	do := command(t, strings.Split(r.err, "\n")[2])
	require.Equal(t, []string{"database", "set", "db", "--plan", "pro", "--plan", "gold", "--plan", "tin", "--plan", ""}, do)
	c.ok(do...)
	c.ok("tenant", "import", file, "--database", "db")
	c.ok("tenant", "add", "globex", "--plan", "pro")

	quiet := inFile(t, "logins.csv", "slug,plan,db_password\ndale,zinc,\n")
	told := c.fails(cli.ExitUsage, []string{"tenant", "import", quiet, "--database", "db"})
	require.NotContains(t, told, "zinc")
	c.ok(command(t, strings.ReplaceAll(told, "PLAN", "zinc"))...)
	require.Contains(t, c.run("tenant", "import", quiet, "--database", "db").err, "line 2: its plan is new, and has no defaults yet; its name is not repeated")
	c.ok("tenant", "add", "harp", "--plan", "pro")
}

// What was not required is not released, and that is said.
func TestAReleaseOfNothingSaysSo(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	c.ok("feature", "set", "beta", "--type", "boolean")
	require.Contains(t, c.run("feature", "release", "beta", "--kind", "app.x").err, "nothing changed: it was so already")
	require.NotContains(t, c.run("feature", "require", "beta", "--kind", "app.x").err, "nothing changed")
	require.NotContains(t, c.run("feature", "release", "beta", "--kind", "app.x").err, "nothing changed")
}

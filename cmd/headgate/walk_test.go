package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// A verb that takes something out, or adds what has no row to show, says what it did.
func TestVerbsWithoutDataSayWhatTheyDid(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	c.ok("region", "add", "eu")
	c.ok("feature", "set", "beta", "--type", "boolean")
	c.ok("plan", "set", "pro")
	c.ok("tenant", "brand", "set", "acme", "1", "Outdoor")
	for says, args := range map[string]string{
		"added: addresses at acme.example mean tenant acme": "tenant email add acme acme.example",
		"removed: region eu":    "region remove eu",
		"removed: feature beta": "feature remove beta",
		"removed: plan pro":     "plan remove pro",
		"removed: brand 1 of tenant acme; rows that bear its number stay": "tenant brand remove acme 1",
	} {
		require.Equal(t, result{err: says + "\n"}, c.run(strings.Fields(args)...))
	}
	require.Equal(t, result{err: "removed: addresses at acme.example no longer mean tenant acme\n"}, c.run("tenant", "email", "remove", "acme", "acme.example"))
}

// The reason of a verb that has a --reason of its own is in the audit, whatever the verb
// itself does with the reason.
func TestEveryReasonReachesTheAudit(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("database", "set", "db", "--max-tenants", "7", "--reason", "a small disk")
	require.Contains(t, c.ok("audit", "list", "--object", "database", "--limit", "1"), "change database db (a small disk)\n    max_tenants: 7\n")
	c.ok("region", "add", "eu", "--reason", "new customers")
	require.Contains(t, c.ok("audit", "list", "--object", "region"), "add region eu (new customers)\n    name=\"eu\"\n")
}

// A change of a plan is one of all its tenants: a dry run says how many, and more than 50
// want their number. A note changes none of them.
func TestAPlanOfManyIsConfirmed(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for i := range cli.ManyTenants + 1 {
		env.Tenant(fmt.Sprintf("t%d", i), "db")
	}
	_, err := env.Pool.Exec(t.Context(), `UPDATE headgate.tenants SET plan = 'free'`)
	require.NoError(t, err)
	narrow := []string{"plan", "set", "free", "--kind", "app.report"}
	before := c.ok("plan", "show", "free")
	require.Contains(t, c.fails(cli.ExitUsage, narrow), `plan "free" is that of 51 tenants; pass --confirm 51 (nothing was changed)`)
	dry := c.run(append(narrow, "--dry-run")...)
	require.Equal(t, cli.ExitOK, dry.code, dry.err)
	require.Contains(t, dry.err, "nothing was changed: a dry run of 51 tenants")
	require.Contains(t, dry.out, "app.report")
	c.fails(cli.ExitUsage, append(narrow, "--confirm", "50"), "51 tenants, not the 50 of --confirm")
	require.Equal(t, before, c.ok("plan", "show", "free"))
	c.ok("plan", "set", "free", "--note", "for shops")
	require.Contains(t, c.ok(append(narrow, "--confirm", "51")...), "app.report")
	require.Contains(t, c.ok("plan", "set", "free", "--all-kinds", "--yes"), "all")
}

// A plan is known before it has a tenant; another is warned of, and begins with its limit.
func TestALimitOfAPlanWithoutTenants(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	c.ok("plan", "set", "free")
	require.Empty(t, c.run("limit", "set", "plan", "free", "--rate", "100/1h").err)
	require.Regexp(t, `(?m)^free .* 100/1h0m0s$`, c.ok("plan", "list"), "as a limit is written")
	require.Contains(t, c.run("limit", "set", "plan", "fre", "--rate", "5/1m").err, `warning: no plan "fre" is known so far (did you mean free?)`)
}

// What a tenant may have jobs of is a field as others are.
func TestATenantsKindsAreShown(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	require.Regexp(t, `(?m)^acme +kinds +- +\["app.report"\]$`, c.ok("tenant", "set", "acme", "--kind", "app.report"))
	require.Regexp(t, `(?m)^kinds +app.report$`, c.ok("tenant", "show", "acme"))
	require.Contains(t, c.run("tenant", "set", "acme", "--kind", "app.report").err, "nothing changed")
	require.Regexp(t, `(?m)^kinds +all$`, c.ok("tenant", "set", "acme", "--plan-kinds")+c.ok("tenant", "show", "acme"))
}

// Who asks why a suspended tenant's work waits is told the reason, and a command that helps.
func TestASuspendedTenantsWorkIsHelpedByACommand(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	c.ok("job", "enqueue", "app.x", "--tenant", "acme")
	c.ok("tenant", "suspend", "acme", "--reason", "invoice 4711")
	c.fails(cli.ExitNotPermitted, []string{"job", "enqueue", "app.x", "--tenant", "acme"}, "is suspended (invoice 4711) and takes no work", "`headgate tenant show acme`")
	require.Contains(t, c.ok("tenant", "explain", "acme"), "next: `headgate tenant resume acme` makes the tenant active")
	c.ok("tenant", "resume", "acme")
	require.NotContains(t, c.ok("tenant", "explain", "acme"), "is suspended")
	c.ok("tenant", "remove", "acme", "--yes")
	require.NotContains(t, c.ok("tenant", "explain", "1"), "tenant resume", "nobody comes back")
}

// Who asks why a schedule made no job is told that its tenant takes no work, and what helps.
func TestWhyOfAScheduleTellsTheTenantsStatus(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	tenant, err := env.Catalog.Tenant(context.Background(), "acme")
	require.NoError(t, err)
	id := tenant.ID
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "app.x", "--cron", "0 3 * * *")
	last := func(r result) string {
		lines := strings.Split(strings.TrimSpace(r.err), "\n")
		return lines[len(lines)-1]
	}
	why := func(more ...string) result {
		return c.run(append([]string{"schedule", "why", "nightly", "--tenant", id}, more...)...)
	}
	ahead := []string{"--at", "2090-01-01 03:00"}
	require.NotContains(t, why().err, "tenant acme")
	require.Contains(t, why(ahead...).out, "it starts at 2090")
	for _, verb := range []string{"suspend", "archive"} {
		c.ok("tenant", verb, "acme", "--reason", "invoice 4711")
		for _, more := range [][]string{nil, ahead} {
			told := last(why(more...))
			require.Regexp(t, `tenant acme is (suspended|archived) since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by \S+ \(invoice 4711\) and takes no work`, told)
			require.Equal(t, []string{"tenant", "resume", "acme"}, command(t, told))
		}
		require.Contains(t, why(ahead...).out, "it will not start: the tenant is "+verb)
		c.ok(command(t, last(why()))...)
		require.NotContains(t, why().err, "tenant acme")
		require.Contains(t, why(ahead...).out, "it starts at 2090")
	}
	require.NoError(t, env.Catalog.SetStatus(context.Background(), "acme", catalog.Moving))
	require.Contains(t, why().err, "tenant acme is being moved since ")
	require.Contains(t, why(ahead...).out, "it starts at 2090")
	c.ok("tenant", "resume", "acme")
	c.ok("tenant", "remove", "acme", "--reason", "left", "--yes")
	c.fails(cli.ExitNotFound, []string{"schedule", "why", "nightly", "--tenant", id}, "the tenant is removed since ", "(left), its schedules went along")
}

// A row that a line of 80 columns has no room for stands upright, and lists of the catalog
// have room for names of the usual length.
func TestTablesFitATerminal(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("shared-eu-1", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "shared-eu-1", "--plan", "enterprise")
	c.ok("limit", "set", "plan", "enterprise", "--max-running", "1000", "--rate", "100000/1h")
	c.ok("plan", "set", "enterprise", "--feature", "seats-", "--note", strings.Repeat("for the largest ", 10))
	require.Regexp(t, `(?m)^max tenants +7$`, c.ok("database", "set", "shared-eu-1", "--max-tenants", "7"))
	require.Regexp(t, `(?m)^budget +30$`, c.ok("server", "set", jobstest.Server, "--budget", "30"))
	for _, args := range []string{"server list", "database list", "plan list", "feature list", "tenant list", "limit list", "region list", "tenant remove acme --dry-run"} {
		narrow(t, args, c.ok(strings.Fields(args)...))
	}
	require.Contains(t, c.ok("server", "list", "-o", "csv"), "name,transport,hosts,pooler,state,running,in_use,", "programs have all of it")
}

// narrow holds lines against the width of a terminal.
func narrow(t *testing.T, of, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, "%s: %s", of, line)
	}
}

// The text, the usage, the flags and the sub-commands of every command's help fit 80 columns.
func TestHelpFitsATerminal(t *testing.T) {
	t.Parallel()
	helped := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		var out bytes.Buffer
		cmd.SetOut(&out)
		require.NoError(t, cmd.Help())
		before, flags, _ := strings.Cut(out.String(), "\nFlags:\n")
		before, _, _ = strings.Cut(before, "\nExamples:\n") // a line of a shell is one line
		before, _, _ = strings.Cut(before, "\nUse \"")
		narrow(t, cmd.CommandPath(), before)
		for _, line := range strings.Split(out.String(), "\n") {
			if name, ok := strings.CutPrefix(line, "  "); ok && len(cmd.Commands()) > 0 && regexp.MustCompile(`^[a-z-]+ +[A-Z]`).MatchString(name) {
				narrow(t, cmd.CommandPath(), line)
			}
		}
		flags, _, _ = strings.Cut(flags, "\nUse \"")
		flags, _, _ = strings.Cut(flags, "\nExit codes")
		narrow(t, cmd.CommandPath(), flags)
		helped++
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	var out bytes.Buffer
	walk(root(cli.New("headgate", nil, &out, &out, nil)))
	require.Greater(t, helped, 100)
}

package main

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// Pauses and limits take an expression instead of a name: the tenants that it selects now are
// paused as one operation, and what is said says that later ones are not.
func TestPausesAndLimitsTakeASelector(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	addMany(t, env, 6, 2)
	said := func(args ...string) string {
		r := c.run(args...)
		require.Equal(t, cli.ExitOK, r.code, r.err)
		return r.err
	}
	require.Equal(t, "paused 2 tenants that plan = free selects now; tenants that come to be selected later are not paused\nnothing was changed: a dry run of 2 tenants\n", said("pause", "tenant", "-l", "plan=free", "--dry-run"))
	require.Equal(t, "[]\n", c.ok("pause", "list", "-o", "json"))
	require.Equal(t, "paused 2 tenants that plan = free selects now; tenants that come to be selected later are not paused\n", said("pause", "tenant", "-l", "plan=free", "--note", "full", "--until", "2h"))
	require.Equal(t, []int{2}, operations(t, env, "pause"))
	require.Regexp(t, `(?m)^tenant +t01 .* full$`, c.ok("pause", "list"))
	require.Equal(t, "[]\n", c.ok("resume", "tenant", "--select", "plan = pro", "-o", "json"))
	require.Contains(t, said("resume", "tenant", "-l", "plan = pro"), "none of the selected tenants is paused: `headgate pause list` shows what is")
	require.Equal(t, "resumed 2 tenants of those that all selects now; their pauses were these\n", said("resume", "tenant", "-l", "all", "--reason", "room again"))
	require.Equal(t, []int{2, 2}, operations(t, env, "pause"))

	require.Equal(t, "set limits of 4 tenants that plan = pro selects now; tenants that come to be selected later get none: a plan's limit is the standing rule\n",
		said("limit", "set", "tenant", "-l", "plan=pro", "--max-running", "2", "--weight", "3"))
	require.Equal(t, []int{4}, operations(t, env, "tenant limit"))
	require.Equal(t, "cleared limits of 2 tenants of those that tenant in (t00, t02, t03) selects now; this is left of their own\n", said("limit", "clear", "tenant", "-l", "tenant in (t02, t03, t00)", "--weight"))
	require.Equal(t, "[\n  {\n    \"scope\": \"tenant\",\n    \"name\": \"t02\",\n    \"max_running\": null,\n    \"max_per_tenant\": null,\n    \"weight\": null,\n    \"rate\": null\n  }\n]\n",
		c.ok("limit", "clear", "tenant", "-l", "tenant = t02", "-o", "json"))
	require.Contains(t, said("limit", "clear", "tenant", "-l", "plan = free"), "none of the selected tenants has such a limit of its own")
	require.Contains(t, said("limit", "set", "tenant", "-l", "plan = fre", "--max-running", "2"), "note: no tenant has plan \"fre\" (did you mean free?)\nplan = fre selects no tenant now, and nothing was changed\n")
}

// What is asked both ways, or of others than tenants, or without the number, is refused.
func TestPausesAndLimitsOfASelectorSlips(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	addMany(t, env, 52, 51)
	for _, verb := range [][]string{{"pause"}, {"resume"}, {"limit", "set", "--max-running", "1"}, {"limit", "clear"}} {
		name := "headgate " + verb[0]
		if verb[0] == "limit" {
			name += " " + verb[1]
		}
		of := func(args ...string) []string { return append(append([]string{}, verb...), args...) }
		c.fails(cli.ExitUsage, of("-l", "all"), "--select selects tenants: "+name+" tenant --select EXPR")
		c.fails(cli.ExitUsage, of("kind", "-l", "all"), "--select selects tenants: "+name+" tenant --select EXPR")
		c.fails(cli.ExitUsage, of("tenant", "t00", "-l", "all"), "\"t00\" and --select: name the tenant, or select tenants")
		c.fails(cli.ExitUsage, of("tenant", "t00", "--yes"), "--yes goes with --select")
		c.fails(cli.ExitUsage, of("tenant", "-l", "plna = free"), "did you mean plan?")
	}
	c.fails(cli.ExitUsage, []string{"limit", "clear", "tenant", "-l", "all", "--per-tenant"}, "a kind has")
	c.fails(cli.ExitUsage, []string{"pause", "tenant", "-l", "plan = free"}, "plan = free: this is about 51 tenants; pass --confirm 51 (nothing was changed)")
	c.fails(cli.ExitUsage, []string{"limit", "set", "tenant", "-l", "all", "--weight", "2", "--confirm", "51"}, "all: this is about 52 tenants, not the 51 of --confirm")
	c.ok("pause", "tenant", "-l", "plan = free", "--confirm", "51")
	c.fails(cli.ExitUsage, []string{"resume", "tenant", "-l", "all"}, "all: this is about 51 tenants; pass --confirm 51")
	c.ok("resume", "tenant", "-l", "all", "--yes")
}

// Every list of tenants' things takes an expression: archived tenants' too, and nothing that
// is of no tenant.
func TestListsTakeASelector(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	addMany(t, env, 4, 2)
	report := `{"name": "x", "query": "SELECT 1"}`
	for _, slug := range []string{"t00", "t01", "t02"} {
		c.ok("job", "enqueue", "headgate.report", "--tenant", slug, "--args", report)
		c.ok("schedule", "create", "daily", "--tenant", slug, "--kind", "headgate.report", "--cron", "0 3 * * *", "--args", report)
	}
	c.ok("job", "enqueue", "headgate.vacuum", "--database", "db", "--args", `{"tables": ["a"]}`)
	c.ok("schedule", "create", "upkeep", "--database", "db", "--kind", "headgate.vacuum", "--cron", "0 3 * * *", "--args", `{"tables": ["a"]}`)
	c.ok("pause", "tenant", "-l", "tenant in (t00, t01, t02)")
	c.ok("pause", "kind", "headgate.report")
	c.ok("limit", "set", "tenant", "-l", "tenant in (t00, t01, t02)", "--weight", "2")
	c.ok("limit", "set", "plan", "free", "--weight", "3")
	c.ok("tenant", "archive", "t01")
	tenants := func(column int, args ...string) (slugs []string) {
		rows, err := csv.NewReader(strings.NewReader(c.ok(append(args, "-o", "csv")...))).ReadAll()
		require.NoError(t, err)
		for _, row := range rows[1:] {
			slugs = append(slugs, row[column])
		}
		slices.Sort(slugs)
		return slugs
	}
	for _, list := range []struct {
		column int
		args   []string
	}{{3, []string{"job", "list"}}, {1, []string{"pause", "list"}}, {1, []string{"limit", "list"}}, {0, []string{"schedule", "list"}}} {
		of := func(expression string) []string { return append(append([]string{}, list.args...), "-l", expression) }
		require.Equal(t, []string{"t00", "t01"}, tenants(list.column, of("plan = free")...), list.args)
		require.Equal(t, []string{"t01"}, tenants(list.column, of("status = archived")...), list.args)
		require.Equal(t, []string{"t00", "t02"}, tenants(list.column, of("tenant in (t00, t02, t03) and database = db")...), list.args)
		require.Empty(t, tenants(list.column, of("tenant = t03")...), list.args)
		require.Contains(t, c.run(of("tenant = t03")...).err, "like that", list.args)
		c.fails(cli.ExitUsage, of("plna = free"), "did you mean plan?")
	}
	require.Equal(t, []string{"t00"}, tenants(3, "job", "list", "-l", "plan = free", "--state", "waiting", "--limit", "1", "--oldest"))
	c.fails(cli.ExitUsage, []string{"limit", "list", "-l", "all", "--scope", "plan"}, "leave --tenant and --scope out")
	c.fails(cli.ExitUsage, []string{"schedule", "list", "-l", "plan = free", "--templates"}, "leave --tenant, --select")
}

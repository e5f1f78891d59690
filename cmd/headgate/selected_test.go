package main

import (
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
	require.Equal(t, "nothing was changed: a dry run with 2 tenants\n", said("pause", "tenant", "-l", "plan=free", "--dry-run"))
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
		c.fails(cli.ExitUsage, of("tenant", "t00", "--dry-run"), "--dry-run goes with --select")
		c.fails(cli.ExitUsage, of("tenant", "-l", "plna = free"), "did you mean plan?")
	}
	c.fails(cli.ExitUsage, []string{"limit", "clear", "tenant", "-l", "all", "--per-tenant"}, "a kind has")
	c.fails(cli.ExitUsage, []string{"pause", "tenant", "-l", "plan = free"}, "plan = free: this is about 51 tenants; pass --confirm 51 (nothing was changed)")
	c.fails(cli.ExitUsage, []string{"limit", "set", "tenant", "-l", "all", "--weight", "2", "--confirm", "51"}, "all: this is about 52 tenants, not the 51 of --confirm")
	c.ok("pause", "tenant", "-l", "plan = free", "--confirm", "51")
	c.fails(cli.ExitUsage, []string{"resume", "tenant", "-l", "all"}, "all: this is about 51 tenants; pass --confirm 51")
	c.ok("resume", "tenant", "-l", "all", "--yes")
}

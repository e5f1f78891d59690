package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// addMany adds tenants t00, t01, … by one call: the first of them on plan free, the others
// on plan pro.
func addMany(t *testing.T, env *jobstest.Env, n, free int) {
	t.Helper()
	env.Database("db", jobstestShared)
	params := make([]catalog.TenantParams, n)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%02d", i), Database: "db", Plan: "pro"}
		if i < free {
			params[i].Plan = "free"
		}
	}
	_, err := env.Catalog.AddTenants(context.Background(), params)
	require.NoError(t, err)
}

// operations are how many entries of the audit each operation on an object has, the latest
// first.
func operations(t *testing.T, env *jobstest.Env, object string) (entries []int) {
	t.Helper()
	all, _, err := access.Audit(context.Background(), env.Pool, access.AuditFilter{Object: object})
	require.NoError(t, err)
	last := ""
	for _, e := range all {
		if e.Operation != last {
			entries, last = append(entries, 0), e.Operation
		}
		entries[len(entries)-1]++
	}
	return entries
}

// The verbs that change tenants take an expression instead of names: what it selects now is
// changed as one operation, after a dry run with the exact number.
func TestTenantVerbsTakeASelector(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	addMany(t, env, 8, 3)
	c.ok("feature", "set", "beta", "--type", "boolean", "--default", "false")
	c.ok("plan", "set", "basic")

	dry := c.run("tenant", "set", "--select", "plan=free", "--plan", "basic", "--timezone", "Europe/Paris", "--dry-run")
	require.Equal(t, cli.ExitOK, dry.code, dry.err)
	require.Equal(t, "plan = free selects 3 tenants now\nnothing was changed: a dry run of 3 tenants\n", dry.err)
	require.Equal(t, 3, strings.Count(dry.out, "Europe/Paris"), dry.out)
	require.Len(t, strings.Fields(c.ok("tenant", "list", "-l", "plan = free", "-o", "csv")), 4)

	before := operations(t, env, "tenant")
	done := c.run("tenant", "set", "-l", "plan=free", "--plan", "basic", "--timezone", "Europe/Paris")
	require.Equal(t, dry.out, done.out, "a dry run says what is done")
	require.Equal(t, append([]int{3}, before...), operations(t, env, "tenant"))

	c.ok("tenant", "label", "-l", "plan = basic", "tier=gold", "old-")
	c.ok("tenant", "feature", "-l", "label.tier = gold", "beta=true")
	c.ok("tenant", "suspend", "-l", "feature.beta and tenant != t00", "--reason", "spring")
	require.Equal(t, []int{2, 3, 3, 3}, operations(t, env, "tenant")[:4])
	require.Equal(t, "slug\nt01\nt02\n", cut(c.ok("tenant", "list", "--status", "suspended", "-o", "csv")))
	c.ok("tenant", "archive", "-l", "tenant = t02")
	r := c.run("tenant", "resume", "-l", "status in (suspended, archived)")
	require.Equal(t, "status in (archived, suspended) selects 1 tenant now\n", r.err)
	var changes []map[string]any
	require.NoError(t, json.Unmarshal([]byte(c.ok("tenant", "set", "-l", "tenant = t01", "--name", "One", "-o", "json")), &changes))
	require.Equal(t, []map[string]any{{"tenant": "t01", "field": "name", "before": "t01", "after": "One"}}, changes)

	nobody := c.run("tenant", "resume", "-l", "status = archived and plan != fre")
	require.Equal(t, cli.ExitOK, nobody.code)
	require.Empty(t, nobody.out)
	require.Contains(t, nobody.err, "note: no tenant has plan \"fre\"")
	require.Contains(t, nobody.err, "note: 1 tenant that is archived or removed fits too: only lists select such tenants\n")
	require.Contains(t, nobody.err, "status = archived and plan != fre selects no tenant now, and nothing was changed\n")
	require.Equal(t, "[]\n", c.ok("tenant", "resume", "-l", "plan = none", "-o", "json"))
	require.Contains(t, c.run("tenant", "set", "-l", "tenant = t01", "--name", "One").err, "nothing changed: it was so already")
}

// Names and an expression are two answers to one question; an expression that does not parse
// is pointed at, and more than 50 tenants are changed only by who knows the number.
func TestTenantBulkSlips(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	addMany(t, env, 52, 51)
	for _, verb := range [][]string{{"set", "t00", "--plan", "pro"}, {"label", "t00", "a=b"}, {"feature", "t00", "a=b"}, {"suspend", "t00"}, {"resume", "t00"}, {"archive", "t00"}} {
		args := append([]string{"tenant"}, verb...)
		c.fails(cli.ExitUsage, append(args, "-l", "all"), "t00 and --select: name the tenants, or select them")
	}
	c.fails(cli.ExitUsage, []string{"tenant", "suspend"}, "SLUG is missing: headgate tenant suspend SLUG..., or --select EXPR")
	c.fails(cli.ExitUsage, []string{"tenant", "label", "a=b"}, "which tenant? give its SLUG before the first KEY=VALUE, or --select EXPR")
	c.fails(cli.ExitUsage, []string{"tenant", "suspend", "-l", "plna = free"}, "unknown attribute \"plna\" (did you mean plan?)")
	c.fails(cli.ExitUsage, []string{"tenant", "suspend", "-l", ""}, "--select")
	c.fails(cli.ExitUsage, []string{"tenant", "suspend", "-l", "all", "-l", "plan = free"}, "--select is given 2 times")
	c.fails(cli.ExitUsage, []string{"tenant", "set", "-l", "all", "--name", "x", "--version", "1"}, "name the tenant, and leave the selector out")

	c.fails(cli.ExitUsage, []string{"tenant", "suspend", "-l", "plan = free"}, "plan = free selects 51 tenants; pass --confirm 51 (nothing was changed)")
	c.fails(cli.ExitUsage, []string{"tenant", "suspend", "-l", "all", "--confirm", "51"}, "all selects 52 tenants, not the 51 of --confirm; look again, and pass --confirm 52 (nothing was changed)")
	require.Contains(t, c.run("tenant", "list", "--status", "suspended").err, "no tenant is like that")
	require.Contains(t, c.run("tenant", "suspend", "-l", "plan = free", "--dry-run").err, "a dry run of 51 tenants")
	c.ok("tenant", "suspend", "-l", "plan = free", "--confirm", "51")
	c.ok("tenant", "resume", "-l", "all", "--yes")
}

// A tenant that is active is resumed without a row of the audit, and with a sentence.
func TestAResumeOfAnActiveTenantChangesNothing(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.ok("tenant", "suspend", "acme", "--reason", "invoice 4711")
	resumed := func() int { return strings.Count(c.ok("audit", "list", "-o", "jsonl"), "\n") }
	before := resumed()
	c.ok("tenant", "resume", "acme")
	after := resumed()
	require.Greater(t, after, before, "the control: a resume is in the audit")
	r := c.run("tenant", "resume", "acme")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err+r.out, "nothing changed: it was so already")
	require.Equal(t, after, resumed())
}

// A plan's kind that nobody serves is noted, and so is what a replaced list dropped.
func TestKindsOfAPlanAreNoted(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	r := c.run("plan", "set", "free", "--kind", "headgate.reprot", "--kind", "headgate.report")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, `note: "headgate.reprot" is no built-in kind (did you mean headgate.report?)`)
	require.NotContains(t, r.err, `"headgate.report" is no`)
	require.NotContains(t, r.err, "replaced")
	r = c.run("plan", "set", "free", "--kind", "headgate.purge", "--kind", "headgate.report", "--dry-run")
	require.Contains(t, r.err, "the list of kinds was replaced: headgate.reprot is not in it any more")
	require.NotContains(t, c.run("plan", "set", "free", "--note", "x").err, "replaced")
	require.NotContains(t, c.run("plan", "set", "free", "--all-kinds").err, "replaced")
}

package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

const schedulesYAML = `
name: site
calendars:
  holidays: [2026-12-24..2026-12-26, "2027-01-01"]
schedules:
  - name: nightly-purge
    select: plan = pro
    kind: headgate.purge
    args: {table: events, column: at, older_than: 90d}
    cron: 0 2 * * *
    calendars: [holidays]
    spread: 10m
    catch_up: {policy: all, max: 3, window: 72h}
    pause_after: 5
    overrides:
      acme: {cron: 0 4 * * *, zone: Europe/Paris, args: {table: events, column: at, older_than: 30d}}
  - name: weekly-report
    select: all
    kind: app.report
    cron: 0 7 * * MON
    overlap: buffer_one
`

// A file of schedules: what it would do, doing it, doing it again, and what has
// changed since.
func TestScheduleFile(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db", "--plan", "pro")
	c.ok("tenant", "add", "brick", "--database", "db", "--plan", "pro", "--timezone", "Asia/Tokyo")
	c.ok("tenant", "add", "coal", "--database", "db", "--plan", "free")
	path := filepath.Join(t.TempDir(), "schedules.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	verb := func(verb string, more ...string) []string {
		return append([]string{"schedule", verb, "-f", path, "-o", "json"}, more...)
	}
	write(schedulesYAML)
	golden(t, "schedule_plan", c.ok(verb("plan")...))
	require.Equal(t, "[]\n", c.ok("schedule", "list", "-o", "json"), "a plan changes nothing")
	golden(t, "schedule_apply", c.ok(verb("apply")...))
	golden(t, "schedule_list_templates", c.ok("schedule", "list", "--templates", "-o", "json"))
	require.Equal(t, "[]\n", c.ok(verb("plan")...))
	require.Equal(t, "[]\n", c.ok(verb("apply")...), "a second time changes nothing")
	require.Equal(t, "[]\n", c.ok(verb("drift")...))
	require.Equal(t, "5", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT count(*) FROM headgate.schedules"))
	require.Equal(t, "Asia/Tokyo", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT zone FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE t.slug = 'brick' AND s.name = 'nightly-purge'"))

	c.ok("schedule", "pause", "weekly-report", "--tenant", "coal", "--note", "audit")
	_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.schedules SET cron = '@hourly' WHERE name = 'nightly-purge' AND tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'brick')`)
	require.NoError(t, err)
	r := c.run(verb("drift")...)
	require.Equal(t, cli.ExitFailed, r.code, r.err)
	golden(t, "schedule_drift", r.out)
	require.Contains(t, c.ok(verb("apply")...), "rows of 1 tenant: put right")
	require.Equal(t, "[]\n", c.ok(verb("apply")...))
	require.NotContains(t, c.run(verb("drift")...).out, "brick", "only what a person has paused is left")

	write(`
name: site
schedules:
  - name: nightly-purge
    select: plan = pro
    kind: headgate.purge
    args: {column: at, older_than: 90d, table: events}
    cron: 30 2 * * *
`)
	golden(t, "schedule_plan_change", c.ok(verb("plan")...))
	plan, err := os.ReadFile(path)
	require.NoError(t, err)
	write(string(plan) + "    priority: 3\n    max_attempts: 5\n")
	require.Contains(t, c.ok(verb("plan")...), `"priority: 1 -> 3"`)
	write(string(plan))
	c.ok(verb("apply")...)
	require.Equal(t, "[]\n", c.ok(verb("plan")...))
	require.Equal(t, "2", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT count(*) FROM headgate.schedules"))
	require.Equal(t, "30 2 * * *", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT string_agg(DISTINCT cron, ',') FROM headgate.schedules"))

	for says, text := range map[string]string{
		"name is missing": "schedules: []",
		"unknown field \"cronn\" (did you mean cron?)": "name: x\nschedules: [{name: a, kind: kk, cronn: '@daily', select: all}]",
		"kind and cron are needed":                     "name: x\nschedules: [{name: a, cron: '@daily', select: all}]",
		"select is missing":                            "name: x\nschedules: [{name: a, kind: kk, cron: '@daily'}]",
		"never fires":                                  "name: x\nschedules: [{name: a, kind: kk, cron: '* * 31 2 *', select: all}]",
		"unknown attribute \"colour\"":                 "name: x\nschedules: [{name: a, kind: kk, cron: '@daily', select: colour = red}]",
		"it is given twice: give each template once":   "name: x\nschedules: [{name: a, kind: kk, cron: '@daily', select: all}, {name: a, kind: kk, cron: '@daily', select: all}]",
		"no duration":                                  "name: x\nschedules: [{name: a, kind: kk, cron: '@daily', select: all, spread: 10}]",
		"unknown calendar":                             "name: x\nschedules: [{name: a, kind: kk, cron: '@daily', select: all, calendars: [none]}]",
		"older_than":                                   "name: x\nschedules: [{name: a, kind: headgate.purge, cron: '@daily', select: all, args: {older_than: 9}}]",
		"works on a whole database":                    "name: x\nschedules: [{name: a, kind: headgate.vacuum, cron: '@daily', select: all}]",
		"mapping values are not allowed":               "name: x: y",
		"is no day: write it as 2026-12-2":             "name: x\ncalendars: {h: [tomorrow]}",
	} {
		write(text)
		c.fails(cli.ExitUsage, verb("plan"), says)
	}
	c.fails(cli.ExitUsage, []string{"schedule", "plan", "-f", filepath.Join(t.TempDir(), "none.yaml")}, "no such file")
	c.fails(cli.ExitUsage, []string{"schedule", "apply"}, "--file is missing")
	golden(t, "schedule_create_template", c.ok("schedule", "create", "hourly", "--select", "plan=pro", "--kind", "app.tick", "--cron", "@hourly", "-o", "json"))
	golden(t, "schedule_maintenance_window_set", c.ok("schedule", "maintenance-window", "set", "nights", "--tenant", "acme", "--span", "MON-FRI 01:00-05:00", "--until", "2037-01-01T00:00:00Z", "--note", "their nights", "-o", "json"))
	golden(t, "schedule_maintenance_window_list", c.ok("schedule", "maintenance-window", "list", "-o", "json"))
	c.fails(cli.ExitConflict, []string{"schedule", "create", "hourly", "--select", "all", "--kind", "app.tick", "--cron", "@hourly"}, "is named \"hourly\"")
	forecast := regexp.MustCompile(`(?s)\{.*?\n  \}`).FindString(c.ok("schedule", "forecast", "-o", "json")) // one slot
	golden(t, "schedule_forecast", regexp.MustCompile(`("\w+": )-?[0-9.]+`).ReplaceAllString(forecast, "${1}N")+"\n")
	c.ok("schedule", "delete", "hourly", "--template")
	c.fails(cli.ExitNotFound, []string{"schedule", "delete", "hourly", "--template"}, "no template")
}

// What changes more tenants than one may have meant wants to be told how many.
func TestManyTenantsAreConfirmed(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	_, err := env.Pool.Exec(context.Background(), `INSERT INTO headgate.tenants (id, org_id, slug, name, plan, database_id, database_kind)
SELECT gen_random_uuid(), 1000 + n, 't' || n, 't' || n, 'pro', d.id, d.kind FROM headgate.databases d, generate_series(1, 1200) n WHERE d.name = 'db'`)
	require.NoError(t, err)
	schedules := func() string {
		return ask(t, env.Pool.Config().ConnConfig.Database, "SELECT count(*) FROM headgate.schedules")
	}
	create := func(more ...string) []string {
		return append([]string{"schedule", "create", "tick", "--select", "plan=pro", "--kind", "app.tick", "--cron", "@daily"}, more...)
	}
	c.fails(cli.ExitUsage, create(), "plan = pro matches 1,200 tenants; pass --confirm 1200 (nothing was changed)")
	c.fails(cli.ExitUsage, create("--confirm", "1199"), "plan = pro matches 1,200 tenants, not the 1,199 of --confirm; look again")
	require.Equal(t, "0", schedules())
	c.ok(create("--confirm", "1200")...)
	require.Equal(t, "1200", schedules())
	edit := func(more ...string) []string {
		return append([]string{"schedule", "edit", "tick", "--template", "-o", "json"}, more...)
	}
	c.fails(cli.ExitUsage, edit("--cron", "@weekly"), "template tick is for 1,200 tenants; pass --confirm 1200")
	c.fails(cli.ExitConflict, edit("--cron", "@weekly", "--version", "7"), "has version 1, not 7")
	c.fails(cli.ExitUsage, edit("--cron", "@reboot", "--yes"), "@reboot")
	c.fails(cli.ExitUsage, edit("--cron", "@weekly", "--tenant", "t1"), "give one of --tenant, --database and --template")
	c.fails(cli.ExitUsage, []string{"schedule", "edit", "tick", "--tenant", "t1", "--select", "all"}, "give --template with it")
	require.Contains(t, c.ok(edit("--cron", "@weekly", "--overlap", "allow", "--note", "quieter", "--confirm", "1200")...), `"cron": "@weekly"`)
	require.Equal(t, "1200", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT count(*) FROM headgate.schedules WHERE cron = '@weekly' AND overlap = 'allow' AND kind = 'app.tick'"))
	require.Equal(t, "quieter", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT reason FROM headgate.audit WHERE object = 'template' AND action = 'change' ORDER BY id DESC LIMIT 1"))
	c.fails(cli.ExitUsage, edit("--select", "tenant=t7"), "the change of template tick touches 1,200 tenants; pass --confirm 1200")
	c.fails(cli.ExitUsage, edit("--select", "tenant=t7", "--confirm", "1"), "touches 1,200 tenants, not the 1 of --confirm")
	require.Equal(t, "1200", schedules())
	require.Contains(t, c.ok(edit("--select", "tenant=t7", "--args", `{"n": 7}`, "--confirm", "1200")...), `"tenants": 1`)
	require.Equal(t, "1", schedules())
	c.fails(cli.ExitUsage, edit("--select", "plan=pro"), "the change of template tick touches 1,200 tenants")
	c.ok(edit("--select", "plan=pro", "--confirm", "1200")...)
	require.Equal(t, "1200", ask(t, env.Pool.Config().ConnConfig.Database, `SELECT count(*) FROM headgate.schedules WHERE cron = '@weekly' AND args = '{"n": 7}'`))
	c.fails(cli.ExitUsage, []string{"schedule", "delete", "tick", "--template", "--tenant", "t1"}, "give one of --tenant, --database and --template")
	c.fails(cli.ExitUsage, []string{"schedule", "delete", "tick", "--template"}, "plan = pro matches 1,200 tenants; pass --confirm 1200")
	require.Equal(t, "1200", schedules())
	c.ok("schedule", "delete", "tick", "--template", "--yes")
	require.Equal(t, "0", schedules())

	path := filepath.Join(t.TempDir(), "schedules.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write("name: x\nschedules: [{name: a, kind: app.tick, cron: '@daily', select: plan = pro}, {name: b, kind: app.tick, cron: '@daily', select: plan = pro}]")
	c.fails(cli.ExitUsage, []string{"schedule", "apply", "-f", path}, "the file x changes schedules of 2,400 tenants; pass --confirm 2400")
	require.Equal(t, "0", schedules())
	c.ok("schedule", "apply", "-f", path, "--confirm", "2400")
	require.Equal(t, "2400", schedules())
	c.ok("schedule", "apply", "-f", path)
	c.fails(cli.ExitConflict, []string{"schedule", "edit", "a", "--template", "--cron", "@weekly"}, "template a comes from the file x: change it there")
	write("name: x\nschedules: []")
	c.fails(cli.ExitUsage, []string{"schedule", "apply", "-f", path}, "pass --confirm 2400")
	c.ok("schedule", "apply", "-f", path, "--confirm", "2400")
	require.Equal(t, "0", schedules())
}

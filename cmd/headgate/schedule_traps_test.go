package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// fileCLI is a command line with three tenants and files of schedules.
type fileCLI struct {
	*commandLine
	env *jobstest.Env
	dir string
}

func fileSetup(t *testing.T) *fileCLI {
	t.Helper()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db", "--plan", "enterprise", "--org-id", "1001")
	c.ok("tenant", "add", "birch", "--database", "db", "--plan", "enterprise")
	c.ok("tenant", "add", "brick", "--database", "db", "--plan", "free")
	return &fileCLI{c, env, t.TempDir()}
}

func (c *fileCLI) verb(verb, text string, more ...string) []string {
	c.t.Helper()
	path := filepath.Join(c.dir, "f.yaml")
	require.NoError(c.t, os.WriteFile(path, []byte(text), 0o600))
	return append([]string{"schedule", verb, "-f", path, "-o", "json"}, more...)
}

func (c *fileCLI) ask(sql string) string {
	c.t.Helper()
	return ask(c.t, c.env.Pool.Config().ConnConfig.Database, sql)
}

// still: the file is applied, and everything says so.
func (c *fileCLI) still(text string) {
	c.t.Helper()
	for _, verb := range []string{"plan", "apply", "drift"} {
		require.Equal(c.t, "[]\n", c.ok(c.verb(verb, text)...), "%s after apply:\n%s", verb, text)
	}
}

// What stands behind --- is applied, and not deleted.
func TestAllDocumentsOfAFileAreApplied(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	one := "name: site\nschedules:\n- {name: one, select: all, kind: app.x, cron: '@daily'}\n"
	two := "- {name: two, select: all, kind: app.x, cron: '@daily'}\n"
	c.ok(c.verb("apply", one+two)...)
	c.still(one + "---\nname: site\nschedules:\n" + two)
	require.Equal(t, "6", c.ask("SELECT count(*) FROM headgate.schedules"))
	c.fails(cli.ExitUsage, c.verb("apply", one+"---\nname: other\nschedules:\n"+two), "this document is named \"other\"")
	require.Equal(t, "6", c.ask("SELECT count(*) FROM headgate.schedules"))

	r := c.runWith(context.Background(), strings.NewReader(one+two), "schedule", "drift", "-f", "-", "-o", "json")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Equal(t, "[]\n", r.out, "- is standard input")
}

// A schedule runs for the tenants that its alias stands for.
func TestAnAliasInASelectorIsItsValue(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	c.ok(c.verb("apply", "name: x\nschedules:\n- {name: a-one, select: &free plan = enterprise, kind: app.x, cron: '@daily'}\n- {name: a-two, select: *free, kind: app.x, cron: '@daily'}")...)
	require.Equal(t, "acme birch", c.ask("SELECT string_agg(t.slug, ' ' ORDER BY t.slug) FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE s.name = 'a-two'"))
}

// What is stored is what the file says, digit for digit, as with --args.
func TestArgumentsAreStoredAsWritten(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	file := func(args string) string {
		return "name: x\nschedules:\n- name: a\n  select: all\n  kind: app.x\n  cron: '@daily'\n  args: {" + args + "}\n"
	}
	for _, args := range []string{"code: 0700", "zip: 01234", "from: 2026-01-01", "at: 2026-01-01 10:00:00", "us: 1_000", "x: .inf"} {
		c.fails(cli.ExitUsage, c.verb("apply", file(args)), "line 7: ", "put it in quotes")
	}
	c.ok(c.verb("apply", file("big: 123456789012345678901234567890, ver: 3.0, zip: '01234', e: 1e21, no: no, n: {a: null}"))...)
	require.Equal(t, `{"e": 1000000000000000000000, "n": {"a": null}, "no": "no", "big": 123456789012345678901234567890, "ver": 3.0, "zip": "01234"}`,
		c.ask("SELECT DISTINCT args::text FROM headgate.schedules"))
}

// The same values in another notation are the same: a second apply does nothing.
func TestASecondApplyDoesNothing(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	uuid := c.ask("SELECT id::text FROM headgate.tenants WHERE slug = 'brick'")
	for _, fields := range []string{
		"start: 2026-12-01T00:00:00+01:00",
		"end: 2036-12-01T00:00:00.123456789-11:30",
		"overrides: {'1001': {cron: '@hourly'}}",
		"overrides: {" + uuid + ": {zone: Asia/Tokyo}, birch: {args: {a: null, b: 1.50}}}",
		"overrides: {" + strings.ToUpper(uuid) + ": {zone: Asia/Tokyo}}",
		"args: {a: 1e21, b: 1.5E-3, c: -0, d: 1.0, e: {f: null}}",
		"windows: ['MON-FRI 00:00-17:00']",
		"calendars: []",
		"start: 2036-01-01T00:00:00Z, max: 3",
		"spread: 3600s",
	} {
		text := "name: x\nschedules:\n- {name: a, select: all, kind: app.x, cron: '@daily', " + fields + "}\n"
		c.ok(c.verb("apply", text)...)
		c.still(text)
	}
	selecting := "name: x\nschedules:\n- {name: a, select: \"plan in (free, enterprise) and not label.seats > 1.50\", kind: app.x, cron: '@daily'}\n"
	c.ok(c.verb("apply", selecting)...)
	c.still(strings.Replace(strings.Replace(selecting, "free, enterprise", "'enterprise',free", 1), "1.50", "1.5", 1))
	text := "name: x\nschedules:\n- {name: a, select: all, kind: app.x, cron: '@daily', args: {n: 1.0}}\n"
	c.ok(c.verb("apply", text)...)
	require.Contains(t, c.ok(c.verb("plan", strings.Replace(text, "1.0", "1", 1))...), `args: {\"n\": 1.0} -> {\"n\": 1}`, "to a handler they are two")
}

// What is probably not meant is said, with the number of tenants.
func TestAPlanSaysHowManyTenants(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	c.ok("schedule", "create", "hidden", "--tenant", "acme", "--kind", "app.x", "--cron", "@daily")
	text := `
name: x
schedules:
- {name: nobody, select: plan = enterprse, kind: app.x, cron: '@daily'}
- {name: some, select: plan = enterprise, kind: app.x, cron: '@daily', overrides: {brick: {cron: '@hourly'}, acme: {cron: '@hourly'}}}
- {name: hidden, select: plan = enterprise, kind: app.x, cron: '@daily'}
`
	for _, verb := range []string{"plan", "apply"} {
		r := c.run(c.verb(verb, text)...)
		require.Equal(t, cli.ExitOK, r.code, r.err)
		require.Contains(t, r.err, "warning: schedule nobody: plan = enterprse selects no tenant now")
		require.Contains(t, r.err, "warning: schedule some: plan = enterprise does not select brick: the overrides for them do nothing now")
		require.Contains(t, r.err, "warning: schedule hidden: 1 of the selected tenants keep a schedule of their own by this name")
		require.NotContains(t, r.err, "acme:")
		golden(t, "schedule_plan_warned", r.out)
	}
	c.fails(cli.ExitNotFound, c.verb("apply", strings.Replace(text, "brick", "nobody-at-all", 1)), "nobody-at-all")
	c.fails(cli.ExitUsage, c.verb("apply", strings.Replace(text, "brick", "'1001'", 1)), `override for "acme": it and that for 1001 are of one tenant, acme: put them together`)
}

// A name that another file has, or a person, is not taken over without a word.
func TestAFileTakesNothingThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	of := func(file, more string) string {
		return "name: " + file + "\ncalendars: {feasts: [2036-12-24]}\nschedules:\n- {name: nightly, select: all, kind: app.x, cron: '@daily'" + more + "}\n"
	}
	c.ok(c.verb("apply", of("one", ""))...)
	c.fails(cli.ExitConflict, c.verb("apply", of("two", "")), "the calendar feasts is there already and comes from the file one", "pass --adopt")
	without := strings.Replace(of("two", ""), "calendars: {feasts: [2036-12-24]}", "calendars: {}", 1)
	for _, verb := range []string{"plan", "apply", "drift"} {
		c.fails(cli.ExitConflict, c.verb(verb, without), "the schedule nightly is there already and comes from the file one")
	}
	require.Contains(t, c.ok(c.verb("plan", of("two", ""), "--adopt")...), `"file: one -> two"`)
	c.ok(c.verb("apply", of("two", ""), "--adopt")...)
	c.still(of("two", ""))
	require.Equal(t, "[]\n", c.ok(c.verb("apply", "name: one\nschedules: []\n")...), "the other file deletes nothing of it")
	require.Equal(t, "3", c.ask("SELECT count(*) FROM headgate.schedules"))
	c.fails(cli.ExitConflict, []string{"schedule", "calendar", "set", "feasts", "--day", "2030-01-01"}, "comes from the file two")
	c.fails(cli.ExitConflict, []string{"schedule", "calendar", "delete", "feasts"}, "comes from the file two")

	c.ok("schedule", "create", "made", "--select", "all", "--kind", "app.x", "--cron", "@daily")
	c.ok("schedule", "calendar", "set", "mine", "--day", "2030-01-01")
	c.fails(cli.ExitConflict, c.verb("apply", strings.Replace(of("two", ""), "nightly", "made", 1)), "the schedule made is there already and was made by hand")
	c.fails(cli.ExitConflict, c.verb("apply", strings.Replace(of("two", ""), "feasts", "mine", 1)), "the calendar mine is there already and was made by hand")
}

// A calendar that the file has no more is deleted, unless somebody else names it.
func TestACalendarGoesWithItsFile(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	with := "name: x\ncalendars: {feasts: [2036-12-24]}\nschedules:\n- {name: a, select: all, kind: app.x, cron: '@daily', calendars: [feasts]}\n"
	without := "name: x\nschedules:\n- {name: a, select: all, kind: app.x, cron: '@daily'}\n"
	c.ok(c.verb("apply", with)...)
	c.still(with)
	c.fails(cli.ExitUsage, c.verb("plan", strings.Replace(with, "calendars: {feasts: [2036-12-24]}\n", "", 1)), "unknown calendar \"feasts\"")
	c.ok("schedule", "create", "own", "--tenant", "acme", "--kind", "app.x", "--cron", "@daily", "--calendar", "feasts")
	for _, verb := range []string{"plan", "apply"} {
		c.fails(cli.ExitConflict, c.verb(verb, without), "calendar feasts is named by 1 schedule: edit what names the calendar first")
	}
	c.ok("schedule", "delete", "own", "--tenant", "acme")
	require.Contains(t, c.ok(c.verb("plan", without)...), `"what": "calendar"`)
	c.ok(c.verb("apply", without)...)
	c.still(without)
	require.Equal(t, "[]\n", c.ok("schedule", "calendar", "list", "-o", "json"))
}

// The time of an apply can be set, and what is not done in it is not done at all.
func TestTheTimeOfAnApplyCanBeSet(t *testing.T) {
	t.Parallel()
	c := fileSetup(t)
	text := "name: x\nschedules:\n- {name: a, select: all, kind: app.x, cron: '@daily'}\n"
	c.fails(cli.ExitTimeout, c.verb("apply", text, "--timeout", "1ns"), "headgate schedule apply was not done after 1ns", "nothing was changed; --timeout gives it longer")
	c.fails(cli.ExitUsage, c.verb("apply", text, "--timeout", "0s"), "--timeout is 0s: give a duration of more than 0")
	require.Equal(t, "0", c.ask("SELECT count(*) FROM headgate.schedules"))
	c.ok(c.verb("apply", text, "--timeout", "5m")...)
}

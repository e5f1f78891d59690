package main

import (
	"context"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// The verbs of schedules, one after the other, as they print JSON.
func TestScheduleVerbs(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	c = c.with("USER", "ines")
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	purge := `{"table": "events", "column": "at", "older_than": "90d"}`
	golden(t, "schedule_calendar_set", c.ok("schedule", "calendar", "set", "holidays", "--day", "2026-12-24..2026-12-26", "--day", "2027-01-01", "-o", "json"))
	golden(t, "schedule_calendar_list", c.ok("schedule", "calendar", "list", "-o", "json"))
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "headgate.purge", "--args", purge, "--cron", "30 2 * * *", "--zone", "Europe/Paris",
		"--calendar", "holidays", "--gap", "skip", "--repeat", "last", "--overlap", "buffer_all", "--buffer-max", "7", "--catch-up", "all", "--catch-up-max", "3", "--catch-up-window", "72h", "--pause-after", "5")
	golden(t, "schedule_show", c.ok("schedule", "show", "nightly", "--tenant", "acme", "-o", "json"))
	golden(t, "schedule_edit", c.ok("schedule", "edit", "nightly", "--tenant", "acme", "--cron", "0 3 * * MON-FRI", "--overlap", "skip", "--version", "1", "--note", "later", "-o", "json"))
	c.fails(cli.ExitConflict, []string{"schedule", "edit", "nightly", "--tenant", "acme", "--cron", "@daily", "--version", "1"}, "has version 2, not 1")
	golden(t, "schedule_trigger", c.ok("schedule", "trigger", "nightly", "--tenant", "acme", "-o", "json"))
	c.fails(cli.ExitConflict, []string{"schedule", "trigger", "nightly", "--tenant", "acme", "--overlap", "skip"}, "has not ended")
	golden(t, "schedule_trigger_waiting", c.ok("schedule", "trigger", "nightly", "--tenant", "acme", "--overlap", "buffer_one", "-o", "json"))
	golden(t, "schedule_backfill_dry", c.ok("schedule", "backfill", "nightly", "--tenant", "acme", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-08T00:00:00Z", "--dry-run", "-o", "json"))
	golden(t, "schedule_backfill", c.ok("schedule", "backfill", "nightly", "--tenant", "acme", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-08T00:00:00Z", "-o", "json"))
	golden(t, "schedule_why", c.ok("schedule", "why", "nightly", "--tenant", "acme", "--at", "2026-11-03 03:00", "-o", "json"))
	why := c.ok("schedule", "why", "nightly", "--tenant", "acme", "--last", "2", "-o", "json")
	golden(t, "schedule_why_last", regexp.MustCompile(`"local": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0[12]:00"`).ReplaceAllString(why, `"local": "<Paris>"`)) // a trigger's is now
	require.Contains(t, c.ok("schedule", "why", "nightly", "--tenant", "acme"), "`headgate job show ")
	c.fails(cli.ExitUsage, []string{"schedule", "why", "nightly", "--tenant", "acme", "--last", "2", "--at", "04:00"}, "give one of them")
	c.fails(cli.ExitUsage, []string{"schedule", "why", "nightly", "--tenant", "acme", "--last", "0"}, "--last is 0: give 1 to 100")
	require.Contains(t, c.ok("schedule", "why", "nightly", "--tenant", "acme", "--at", "04:00"), "every weekday at 03:00 (Europe/Paris)")
	require.Contains(t, c.ok("schedule", "show", "nightly", "--tenant", "acme"), "backfill")
	require.Contains(t, c.ok("schedule", "preview", "nightly", "--tenant", "acme", "--from", "2026-12-20T00:00:00Z", "-n", "5", "-o", "csv"), "2026-12-28T03:00:00+01:00")
	c.fails(cli.ExitConflict, []string{"schedule", "calendar", "delete", "holidays"}, "is named by 1 schedule:")
	golden(t, "schedule_delete", c.ok("schedule", "delete", "nightly", "--tenant", "acme", "-o", "json"))
	c.fails(cli.ExitNotFound, []string{"schedule", "show", "nightly", "--tenant", "acme"}, "unknown schedule")
	c.ok("schedule", "calendar", "delete", "holidays")
	c.fails(cli.ExitNotFound, []string{"schedule", "calendar", "delete", "holidays"}, "unknown calendar")

	// A database has schedules of its own, of kinds that work on a whole one.
	c.ok("schedule", "create", "weekly-analyze", "--database", "db", "--kind", "headgate.analyze", "--cron", "@weekly", "--zone", "Europe/Paris")
	golden(t, "schedule_show_database", c.ok("schedule", "show", "weekly-analyze", "--database", "db", "-o", "json"))
	_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.schedules SET next_run_at = now()`)
	require.NoError(t, err)

	for says, args := range map[string][]string{
		"--tenant is missing":                 {"create", "x", "--kind", "headgate.purge", "--cron", "@daily"},
		"give --database instead of --tenant": {"create", "x", "--tenant", "acme", "--kind", "headgate.vacuum", "--cron", "@daily"},
		"give --tenant instead of --database": {"create", "x", "--database", "db", "--kind", "headgate.purge", "--args", purge, "--cron", "@daily"},
		`overlap "both"`:                      {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--overlap", "both"},
		`catch-up "some"`:                     {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--catch-up", "some"},
		`catch-up max "1001": give 1 to 1000`: {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--catch-up-max", "1001"},
		"--spread is 25h: give 0s to 24h":     {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--spread", "25h"},
		`unknown calendar "none"`:             {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--calendar", "none"},
		"it has no time left":                 {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--end", "2020-01-01T00:00:00Z"},
		"max occurrences is 3 without":        {"create", "x", "--tenant", "acme", "--kind", "kk", "--cron", "@daily", "--max", "3"},
		"older_than":                          {"create", "x", "--tenant", "acme", "--kind", "headgate.purge", "--args", `{"older_than": 9}`, "--cron", "@daily"},
		"did you mean headgate.purge?":        {"create", "x", "--tenant", "acme", "--kind", "headgate.purg", "--cron", "@daily"},
		"--at: ":                              {"why", "x", "--tenant", "acme", "--at", "noon"},
		"--from: ":                            {"backfill", "x", "--tenant", "acme", "--from", "yesterday", "--to", "today"},
		"--until: ":                           {"pause", "x", "--tenant", "acme", "--until", "soon"},
		"give one of --tenant and --database": {"pause", "x"},
		`"tomorrow" is no day`:                {"calendar", "set", "h", "--day", "tomorrow"},
		`calendar name "H"`:                   {"calendar", "set", "H"},
	} {
		c.fails(cli.ExitUsage, append([]string{"schedule"}, args...), says)
	}
}

// A tenant that was just added is said to wait for its selectors' schedules.
func TestScheduleWhyNotYetApplied(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db", "--plan", "pro")
	c.ok("schedule", "create", "tick", "--select", "plan=pro", "--kind", "app.tick", "--cron", "@daily")
	c.ok("tenant", "add", "brick", "--database", "db", "--plan", "pro")
	require.Contains(t, c.ok("schedule", "why", "tick", "--tenant", "brick", "--at", "00:00"), "not yet applied: the tenant was added or changed at ")
	c.fails(cli.ExitNotFound, []string{"schedule", "why", "tock", "--tenant", "brick", "--at", "00:00"}, "has no schedule named")
}

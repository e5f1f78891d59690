package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// The preview needs no database, and prints the night of the clocks.
func TestSchedulePreview(t *testing.T) {
	t.Parallel()
	c := &commandLine{t: t} // no environment at all
	night := []string{"schedule", "preview", "--cron", "30 2 * * *", "--zone", "America/New_York", "--from", "2026-03-07T00:00:00Z", "-n", "3", "-o", "json"}
	require.Equal(t, `[
  {
    "local": "2026-03-07T02:30:00-05:00",
    "zone": "America/New_York",
    "utc": "2026-03-07T07:30:00Z",
    "effective": "2026-03-07T07:30:00Z",
    "note": ""
  },
  {
    "local": "2026-03-08T03:00:00-04:00",
    "zone": "America/New_York",
    "utc": "2026-03-08T07:00:00Z",
    "effective": "2026-03-08T07:00:00Z",
    "note": "02:30 does not exist on this day (the clocks go from 02:00 to 03:00): fires at the end of the jump"
  },
  {
    "local": "2026-03-09T02:30:00-04:00",
    "zone": "America/New_York",
    "utc": "2026-03-09T06:30:00Z",
    "effective": "2026-03-09T06:30:00Z",
    "note": ""
  }
]
`, c.ok(night...))
	skipped := c.ok(append(night, "--gap", "skip")...)
	require.NotContains(t, skipped, "2026-03-08T0")
	require.Contains(t, skipped, "2026-03-10T02:30:00-04:00")
	autumn := []string{"schedule", "preview", "--cron", "30 1 * * *", "--zone", "America/New_York", "--from", "2026-11-01T00:00:00Z", "-n", "2", "-o", "csv"}
	require.Contains(t, c.ok(append(autumn, "--repeat", "last")...), "2026-11-01T01:30:00-05:00")
	both := c.ok(append(autumn, "--repeat", "both")...)
	require.Contains(t, both, "2026-11-01T01:30:00-04:00")
	require.Contains(t, both, "2026-11-01T01:30:00-05:00")
	spread := c.ok(append(night, "--spread", "10m")...)
	require.NotContains(t, spread, `"effective": "2026-03-07T07:30:00Z"`)
	require.Equal(t, spread, c.ok(append(night, "--spread", "10m")...), "the place in a spread is stable")

	for says, args := range map[string][]string{
		"the time zone belongs in the zone field": {"--cron", "TZ=UTC"},
		"never fires":                          {"--cron", "* * 31 2 *"},
		"the interval must be at least 10s":    {"--cron", "@every 1ns"},
		"want 0-7 or SUN-SAT":                  {"--cron", "0 0 * * 8"},
		"nothing reboots here":                 {"--cron", "@reboot"},
		"write it in lower case":               {"--cron", "@Daily"},
		"L, W and # are not supported":         {"--cron", "0 0 L * *"},
		"has 6 fields, want 5":                 {"--cron", "0 0 0 * * *"},
		"is not allowed: write plain ASCII":    {"--cron", "５ * * * *"},
		"want 0-59":                            {"--cron", "12345678901234567890 * * * *"},
		`unknown IANA time zone "Mars/Phobos"`: {"--cron", "@daily", "--zone", "Mars/Phobos"},
		"differs from machine to machine":      {"--cron", "@daily", "--zone", "Local"},
		"time zone is empty":                   {"--cron", "@daily", "--zone", ""},
		`did you mean "America/New_York"?`:     {"--cron", "@daily", "--zone", "EST5EDT"},
		"--from":                               {"--cron", "@daily", "--from", "2027-02-30"},
		`gap "later"`:                          {"--cron", "@daily", "--gap", "later"},
		`repeat "twice"`:                       {"--cron", "@daily", "--repeat", "twice"},
		"--spread is -1s: give 0s to 24h":      {"--cron", "@daily", "--spread", "-1s"},
		"--number is 0":                        {"--cron", "@daily", "-n", "0"},
		"window":                               {"--cron", "@daily", "--within", "25:00-26:00"},
		"--cron is missing":                    {},
	} {
		c.fails(cli.ExitUsage, append([]string{"schedule", "preview"}, args...), says)
	}
	r := c.run("schedule", "preview", "--cron", "0 0 1 1 MON", "-o", "json")
	require.Contains(t, r.err, "fires on either")
}

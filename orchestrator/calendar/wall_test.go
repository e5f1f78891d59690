package calendar_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGoldenNights pins the nights on which clocks change: what fires next, and
// what after that.
func TestGoldenNights(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, zone, after, first, second string }{
		// Fixed times in a gap: at its end, and the next day as usual.
		{"30 2 * * *", "America/New_York", "2026-03-08 00:00:00", "2026-03-08 03:00:00 -04:00", "2026-03-09 02:30:00 -04:00"},
		{"30 2 * * 0", "America/New_York", "2026-03-08 00:00:00", "2026-03-08 03:00:00 -04:00", "2026-03-15 02:30:00 -04:00"},
		{"30 1 * * *", "Europe/London", "2026-03-29 00:00:00", "2026-03-29 02:00:00 +01:00", "2026-03-30 01:30:00 +01:00"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-04 00:00:00", "2026-10-04 02:30:00 +11:00", "2026-10-05 02:15:00 +11:00"},
		{"0 0 * * *", "Africa/Cairo", "2026-04-23 12:00:00", "2026-04-24 01:00:00 +03:00", "2026-04-25 00:00:00 +03:00"},
		{"@daily", "Asia/Beirut", "2026-03-28 12:00:00", "2026-03-29 01:00:00 +03:00", "2026-03-30 00:00:00 +03:00"},
		{"0,30 2 * * *", "Europe/Berlin", "2026-03-29 00:00:00", "2026-03-29 03:00:00 +02:00", "2026-03-30 02:00:00 +02:00"},
		{"30 2,3 * * *", "Europe/Berlin", "2026-03-29 00:00:00", "2026-03-29 03:00:00 +02:00", "2026-03-29 03:30:00 +02:00"},
		{"30 23 * * *", "America/Nuuk", "2026-03-28 12:00:00", "2026-03-29 00:00:00 -01:00", "2026-03-29 23:30:00 -01:00"},
		{"0 12 30 12 *", "Pacific/Apia", "2011-06-01 00:00:00", "2011-12-31 00:00:00 +14:00", "2012-12-30 12:00:00 +14:00"},

		// Fixed times in an overlap: the first pass only.
		{"30 1 * * *", "America/New_York", "2026-11-01 00:00:00", "2026-11-01 01:30:00 -04:00", "2026-11-02 01:30:00 -05:00"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-05 00:00:00", "2026-04-05 01:45:00 +11:00", "2026-04-06 01:45:00 +10:30"},
		{"30 2 * * *", "Africa/Casablanca", "2026-02-15 00:00:00", "2026-02-15 02:30:00 +01:00", "2026-02-16 02:30:00 +00:00"},
		{"0,59 1 * * *", "America/New_York", "2026-11-01 01:30:00 -05:00", "2026-11-02 01:00:00 -05:00", "2026-11-02 01:59:00 -05:00"},

		// Elapsed time: both passes, nothing for what was skipped.
		{"*/30 * * * *", "America/New_York", "2026-11-01 01:30:00 -04:00", "2026-11-01 01:00:00 -05:00", "2026-11-01 01:30:00 -05:00"},
		{"@hourly", "America/New_York", "2026-03-08 01:00:00", "2026-03-08 03:00:00 -04:00", "2026-03-08 04:00:00 -04:00"},
		{"0 */2 * * *", "America/New_York", "2026-03-08 00:00:00", "2026-03-08 04:00:00 -04:00", "2026-03-08 06:00:00 -04:00"},
		{"*/15 2 * * *", "America/New_York", "2026-03-07 02:45:00", "2026-03-09 02:00:00 -04:00", "2026-03-09 02:15:00 -04:00"},
		{"*/15 * * * *", "Australia/Lord_Howe", "2026-04-05 01:45:00 +11:00", "2026-04-05 01:30:00 +10:30", "2026-04-05 01:45:00 +10:30"},

		// No change at all.
		{"0 9 * * *", "Asia/Kathmandu", "2026-03-29 00:00:00", "2026-03-29 09:00:00 +05:45", "2026-03-30 09:00:00 +05:45"},
		{"@every 1h", "Europe/Berlin", "2026-10-25 02:00:00 +02:00", "2026-10-25 02:00:00 +01:00", "2026-10-25 03:00:00 +01:00"},
	} {
		s := parse(t, c.expr, c.zone)
		first := s.Next(at(t, c.after, c.zone))
		second := s.Next(first)
		require.Equal(t, [2]string{c.first, c.second}, [2]string{
			first.Format("2006-01-02 15:04:05 -07:00"),
			second.Format("2006-01-02 15:04:05 -07:00"),
		}, "%s in %s after %s", c.expr, c.zone, c.after)
	}
}

// Go's ZoneBounds stands still on the last day of a leap year after 2037, which
// made Next hang.
func TestNextGoesPastTheLeapYears(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"America/New_York", "Asia/Gaza", "Europe/Dublin"} {
		for _, expr := range []string{"* 3 31 1 *", "30 2 * * *", "0 */5 * * *", "30 3 1 1 *"} {
			s := parse(t, expr, zone)
			last := at(t, "2036-12-01 00:00:00", zone)
			for n := 0; last.Year() < 2100; n++ {
				next := s.Next(last)
				require.True(t, next.After(last))
				if last = next; n%10 == 0 {
					last = last.AddDate(0, 0, 300) // or it takes long
				}
			}
		}
	}
}

package calendar_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

const offsetTime = "2006-01-02 15:04:05 -07:00"

// TestGoldenPolicies pins what gap and repeat change on the nights of the clocks.
func TestGoldenPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expr, zone string
		gap        calendar.Gap
		repeat     calendar.Repeat
		from       string
		want       string // the next three
	}{
		{"30 2 * * *", "America/New_York", "skip", "", "2026-03-07 00:00:00", "2026-03-07 02:30:00 -05:00, 2026-03-09 02:30:00 -04:00, 2026-03-10 02:30:00 -04:00"},
		{"30 2 * * *", "America/New_York", "next", "", "2026-03-07 00:00:00", "2026-03-07 02:30:00 -05:00, 2026-03-08 03:00:00 -04:00, 2026-03-09 02:30:00 -04:00"},
		{"30 1 * * *", "America/New_York", "", "last", "2026-10-31 00:00:00", "2026-10-31 01:30:00 -04:00, 2026-11-01 01:30:00 -05:00, 2026-11-02 01:30:00 -05:00"},
		{"30 1 * * *", "America/New_York", "", "both", "2026-10-31 12:00:00", "2026-11-01 01:30:00 -04:00, 2026-11-01 01:30:00 -05:00, 2026-11-02 01:30:00 -05:00"},
		{"0,30 1 * * *", "America/New_York", "", "both", "2026-11-01 00:00:00", "2026-11-01 01:00:00 -04:00, 2026-11-01 01:30:00 -04:00, 2026-11-01 01:00:00 -05:00"},
		{"0 * * * *", "America/New_York", "", "first", "2026-11-01 00:30:00", "2026-11-01 01:00:00 -04:00, 2026-11-01 02:00:00 -05:00, 2026-11-01 03:00:00 -05:00"},
		{"30 * * * *", "America/New_York", "next", "", "2026-03-08 01:00:00", "2026-03-08 01:30:00 -05:00, 2026-03-08 03:00:00 -04:00, 2026-03-08 03:30:00 -04:00"},
		{"0 0 * * *", "America/Santiago", "skip", "", "2026-09-05 12:00:00", "2026-09-07 00:00:00 -03:00, 2026-09-08 00:00:00 -03:00, 2026-09-09 00:00:00 -03:00"},
		{"0 0 * * *", "America/Santiago", "", "", "2026-09-05 12:00:00", "2026-09-06 01:00:00 -03:00, 2026-09-07 00:00:00 -03:00, 2026-09-08 00:00:00 -03:00"},
		{"30 23 * * *", "America/Santiago", "", "both", "2026-04-04 12:00:00", "2026-04-04 23:30:00 -03:00, 2026-04-04 23:30:00 -04:00, 2026-04-05 23:30:00 -04:00"},
		{"0 0 * * *", "Africa/Cairo", "skip", "", "2026-04-23 12:00:00", "2026-04-25 00:00:00 +03:00, 2026-04-26 00:00:00 +03:00, 2026-04-27 00:00:00 +03:00"},
		{"30 23 * * *", "Africa/Cairo", "", "last", "2026-10-29 12:00:00", "2026-10-29 23:30:00 +02:00, 2026-10-30 23:30:00 +02:00, 2026-10-31 23:30:00 +02:00"},
		{"45 1 * * *", "Australia/Lord_Howe", "", "last", "2026-04-04 12:00:00", "2026-04-05 01:45:00 +10:30, 2026-04-06 01:45:00 +10:30, 2026-04-07 01:45:00 +10:30"},
		{"15 2 * * *", "Australia/Lord_Howe", "skip", "", "2026-10-03 12:00:00", "2026-10-05 02:15:00 +11:00, 2026-10-06 02:15:00 +11:00, 2026-10-07 02:15:00 +11:00"},
		{"30 1 * * *", "Europe/London", "skip", "", "2026-03-28 12:00:00", "2026-03-30 01:30:00 +01:00, 2026-03-31 01:30:00 +01:00, 2026-04-01 01:30:00 +01:00"},
		{"30 2 * * *", "Europe/Paris", "skip", "last", "2026-03-28 12:00:00", "2026-03-30 02:30:00 +02:00, 2026-03-31 02:30:00 +02:00, 2026-04-01 02:30:00 +02:00"},
		{"30 2 * * *", "Africa/Casablanca", "", "both", "2026-02-14 12:00:00", "2026-02-15 02:30:00 +01:00, 2026-02-15 02:30:00 +00:00, 2026-02-16 02:30:00 +00:00"},
		{"0 12 * * *", "Pacific/Apia", "skip", "", "2011-12-29 00:00:00", "2011-12-29 12:00:00 -10:00, 2011-12-31 12:00:00 +14:00, 2012-01-01 12:00:00 +14:00"},
		{"0 9 * * *", "Asia/Kathmandu", "skip", "both", "2026-03-28 12:00:00", "2026-03-29 09:00:00 +05:45, 2026-03-30 09:00:00 +05:45, 2026-03-31 09:00:00 +05:45"},
	} {
		s, err := calendar.New(calendar.Spec{Cron: c.expr, Zone: c.zone, Gap: c.gap, Repeat: c.repeat})
		require.NoError(t, err)
		got := []string(nil)
		for _, o := range s.Upcoming(at(t, c.from, c.zone), 3) {
			got = append(got, o.At.Format(offsetTime))
		}
		require.Equal(t, c.want, strings.Join(got, ", "), "%s in %s, gap %q, repeat %q", c.expr, c.zone, c.gap, c.repeat)
	}
}

func TestNotesAndSkips(t *testing.T) {
	t.Parallel()
	new := func(spec calendar.Spec) *calendar.Schedule {
		s, err := calendar.New(spec)
		require.NoError(t, err)
		return s
	}
	const zone = "America/New_York"
	s := new(calendar.Spec{Cron: "30 2 * * *", Zone: zone})
	list := s.Upcoming(at(t, "2026-03-07 12:00:00", zone), 2)
	require.Equal(t, "02:30 does not exist on this day (the clocks go from 02:00 to 03:00): fires at the end of the jump", list[0].Note)
	require.Empty(t, list[1].Note)
	require.Empty(t, s.Skips(at(t, "2026-03-01 00:00:00", zone), at(t, "2026-12-01 00:00:00", zone)))

	s = new(calendar.Spec{Cron: "30 2 * * *", Zone: zone, Gap: calendar.GapSkip})
	list = s.Upcoming(at(t, "2026-03-07 12:00:00", zone), 1)
	require.Equal(t, "before it: 02:30 does not exist on 2026-03-08 (the clocks go from 02:00 to 03:00)", list[0].Note)
	skips := s.Skips(at(t, "2026-03-01 00:00:00", zone), at(t, "2026-12-01 00:00:00", zone))
	require.Len(t, skips, 1)
	require.Equal(t, calendar.SkipDST, skips[0].Reason)
	require.Equal(t, "2026-03-08 03:00:00 -04:00", skips[0].From.Format(offsetTime))

	s = new(calendar.Spec{Cron: "0,30 1 * * *", Zone: zone})
	list = s.Upcoming(at(t, "2026-10-31 12:00:00", zone), 1)
	require.Equal(t, "01:00 comes twice on this day: this is the first", list[0].Note)
	skips = s.Skips(at(t, "2026-03-01 00:00:00", zone), at(t, "2026-12-01 00:00:00", zone))
	require.Len(t, skips, 1)
	require.Equal(t, 2, skips[0].Count)
	require.Equal(t, "01:00 comes twice on 2026-11-01, and the second does not fire", skips[0].Note)
	require.Equal(t, "2026-11-01 01:00:00 -05:00", skips[0].From.Format(offsetTime))
	require.Equal(t, "2026-11-01 01:30:00 -05:00", skips[0].To.Format(offsetTime))
}

func TestBounds(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 12, 0, 30, 0, time.UTC)
	s, err := calendar.New(calendar.Spec{Cron: "@every 1h30m", Zone: "UTC", Start: start, Max: 3})
	require.NoError(t, err)
	list := s.Upcoming(time.Time{}, 10)
	require.Len(t, list, 3)
	require.Equal(t, start, list[0].At)
	require.Equal(t, start.Add(3*time.Hour), list[2].At)
	require.Equal(t, 2, s.Count(start, start.AddDate(1, 0, 0)))

	s, err = calendar.New(calendar.Spec{Cron: "0 7 * * *", Zone: "Europe/Paris", Start: start, End: start.AddDate(0, 0, 2)})
	require.NoError(t, err)
	require.Equal(t, 2, s.Count(time.Time{}, start.AddDate(1, 0, 0)))
	require.True(t, s.Next(start.AddDate(0, 0, 2)).IsZero())
	occurrences, more := s.Between(time.Time{}, start.AddDate(1, 0, 0), 1)
	require.Len(t, occurrences, 1)
	require.True(t, more)

	for want, spec := range map[string]calendar.Spec{
		`gap "later": write next`:                           {Cron: "@daily", Zone: "UTC", Gap: "later"},
		`repeat "twice": write first, last or both`:         {Cron: "@daily", Zone: "UTC", Repeat: "twice"},
		"max occurrences is 3 without a start":              {Cron: "@daily", Zone: "UTC", Max: 3},
		"max occurrences is 100001: give 1 to 100000":       {Cron: "@daily", Zone: "UTC", Max: 100_001, Start: start},
		"is before start":                                   {Cron: "@daily", Zone: "UTC", Start: start, End: start.Add(-time.Hour)},
		"never fires before its end":                        {Cron: "0 0 29 2 *", Zone: "UTC", Start: start, End: start.AddDate(0, 1, 0)},
		"start 0001-02-01T00:00:00Z: give a time from 1970": {Cron: "@daily", Zone: "UTC", Start: time.Date(1, 2, 1, 0, 0, 0, 0, time.UTC)},
	} {
		_, err := calendar.New(spec)
		require.ErrorContains(t, err, want)
	}
}

func TestExclusionsAndWindows(t *testing.T) {
	t.Parallel()
	holidays, err := calendar.NewDays("holidays", []calendar.DayRange{{From: "2026-12-24", To: "2026-12-26", Note: "Christmas"}, {From: "2027-01-01"}, {From: "2026-12-25", To: "2026-12-27"}})
	require.NoError(t, err)
	require.Len(t, holidays.Ranges, 2)
	s, err := calendar.New(calendar.Spec{Cron: "0 7 * * *", Zone: "Europe/Paris", Exclude: []calendar.Days{holidays}})
	require.NoError(t, err)
	from := at(t, "2026-12-23 12:00:00", "Europe/Paris")
	require.Equal(t, "2026-12-28 07:00:00 +01:00", s.Next(from).Format(offsetTime))
	require.Equal(t, 8, s.Count(from, at(t, "2027-01-05 12:00:00", "Europe/Paris")))
	skips := s.Skips(from, at(t, "2027-01-05 12:00:00", "Europe/Paris"))
	require.Len(t, skips, 2)
	require.Equal(t, 4, skips[0].Count)
	require.Equal(t, "calendar holidays (Christmas)", skips[0].Note)
	require.Equal(t, calendar.SkipExcluded, skips[0].Reason)
	require.Equal(t, "2026-12-27 07:00:00 +01:00", skips[0].To.Format(offsetTime))

	night, err := calendar.ParseWindow("mon-fri 22:00-04:00")
	require.NoError(t, err)
	s, err = calendar.New(calendar.Spec{Cron: "30 * * * *", Zone: "Europe/Paris", Windows: []calendar.Window{night}})
	require.NoError(t, err)
	from = at(t, "2026-11-27 20:00:00", "Europe/Paris") // a Friday
	list := s.Upcoming(from, 7)
	require.Equal(t, "2026-11-27 22:30:00 +01:00", list[0].At.Format(offsetTime))
	require.Equal(t, "2026-11-28 03:30:00 +01:00", list[5].At.Format(offsetTime))
	require.Equal(t, "2026-11-30 22:30:00 +01:00", list[6].At.Format(offsetTime))
	closes, ok := night.Closes(list[0].At)
	require.True(t, ok)
	require.Equal(t, "2026-11-28 04:00:00 +01:00", closes.Format(offsetTime))
	_, ok = night.Closes(from)
	require.False(t, ok)

	_, err = calendar.New(calendar.Spec{Cron: "0 12 * * *", Zone: "UTC", Windows: []calendar.Window{night}})
	require.ErrorContains(t, err, "never fires inside its windows (mon-fri 22:00-04:00)")
	for _, text := range []string{"", "01:00", "25:00-26:00", "1:00-2:00", "01:00-01:00", "MON-FRY 01:00-02:00", "FRI-MON 01:00-02:00", "24:00-01:00", "a b c", "01:60-02:00", strings.Repeat("x", 200)} {
		_, err := calendar.ParseWindow(text)
		require.ErrorContains(t, err, "window ", text)
		require.Less(t, len(err.Error()), 300)
	}
	for _, r := range []calendar.DayRange{{From: "2026-02-30"}, {From: "tomorrow"}, {From: "2026-03-02", To: "2026-03-01"}} {
		_, err := calendar.NewDays("h", []calendar.DayRange{r})
		require.ErrorContains(t, err, `calendar "h"`)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"0 7 * * MON-FRI":       "every weekday at 07:00 (Europe/Paris)",
		"0 7 * * *":             "every day at 07:00 (Europe/Paris)",
		"0 7,19 * * 0,6":        "every Saturday and Sunday at 07:00 and 19:00 (Europe/Paris)",
		"* * * * *":             "every minute (Europe/Paris)",
		"*/5 * * * *":           "every 5 minutes (Europe/Paris)",
		"*/7 * * * *":           "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour (Europe/Paris)",
		"@hourly":               "every hour (Europe/Paris)",
		"5 * * * *":             "at minute 5 of every hour (Europe/Paris)",
		"0 */2 * * *":           "every 2 hours (Europe/Paris)",
		"15 */6 * * *":          "every 6 hours at minute 15 (Europe/Paris)",
		"*/15 9-17 * * 1-5":     "every 15 minutes in the hours 9 to 17, every weekday (Europe/Paris)",
		"0 9-17 * * 1-5":        "on the hour in the hours 9 to 17, every weekday (Europe/Paris)",
		"0 3 1 * *":             "on day 1 of every month at 03:00 (Europe/Paris)",
		"0 3 1,15 * *":          "on days 1 and 15 of every month at 03:00 (Europe/Paris)",
		"0 3 1 1 *":             "every year on 1 January at 03:00 (Europe/Paris)",
		"0 3 1 JAN,JUL *":       "on day 1 of January and July at 03:00 (Europe/Paris)",
		"0 0 1 1 MON":           "on day 1 and also every Monday of January at 00:00 (Europe/Paris)",
		"0 0 * DEC MON,WED":     "every Monday and Wednesday in December at 00:00 (Europe/Paris)",
		"@every 1h30m":          "every 90 minutes (Europe/Paris)",
		"@every 24h":            "every 24 hours (Europe/Paris)",
		"0 0 * * 0":             "every Sunday at 00:00 (Europe/Paris)",
		"0-4 8 * * *":           "every day at 08:00, 08:01, 08:02, 08:03 and 08:04 (Europe/Paris)",
		"@every 10s":            "every 10 seconds (Europe/Paris)",
		"0 12 * JAN-MAR *":      "every day in January, February and March at 12:00 (Europe/Paris)",
		"* 9 * * *":             "every minute in the hours 9 (Europe/Paris)",
		"0,20,40 9-11,15 1 * *": "every 20 minutes in the hours 9 to 11 and 15, on day 1 of every month (Europe/Paris)",
	} {
		require.Equal(t, want, parse(t, expr, "Europe/Paris").Words(), expr)
	}
}

func TestCached(t *testing.T) {
	t.Parallel()
	spec := calendar.Spec{Cron: "0 7 * * *", Zone: "Europe/Paris"}
	first, err := calendar.Cached(spec)
	require.NoError(t, err)
	for range 4_500 {
		spec.Start = spec.Start.Add(time.Hour).AddDate(1, 0, 0)
		if spec.Start.Year() < 1970 {
			spec.Start = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		_, _ = calendar.Cached(spec) // many, to fill it; those past 9999 are refused
	}
	again, err := calendar.Cached(calendar.Spec{Cron: "0 7 * * *", Zone: "Europe/Paris"})
	require.NoError(t, err)
	require.Equal(t, first.Words(), again.Words())
	_, err = calendar.Cached(calendar.Spec{Cron: "* * 31 2 *", Zone: "UTC"})
	require.ErrorContains(t, err, "never fires")
}

// A minutely schedule that stood for thirty days is counted, in time that grows with the
// occurrences and not with their square; the last of 300 years are found without a walk
// through them. Both are compared with a count in the same run.
func TestCountIsFast(t *testing.T) {
	t.Parallel()
	s := parse(t, "* * * * *", "America/New_York")
	now := time.Date(2026, 11, 24, 12, 0, 30, 0, time.UTC)
	require.Equal(t, 43_200, s.Count(now.AddDate(0, 0, -30), now))
	require.Len(t, s.Last(now.AddDate(-300, 0, 0), now, 10), 10)
	fastest := func(do func()) time.Duration {
		least := time.Duration(math.MaxInt64)
		for range 5 {
			began := time.Now()
			do()
			least = min(least, time.Since(began))
		}
		return least
	}
	thirty := fastest(func() { s.Count(now.AddDate(0, 0, -30), now) })
	three := fastest(func() { s.Count(now.AddDate(0, 0, -3), now) })
	last := fastest(func() { s.Last(now.AddDate(-300, 0, 0), now, 10) })
	require.Less(t, thirty, 40*three, "ten times as many")
	require.Less(t, last, thirty, "3,650 times as many")
}

// Place spreads neighbouring names evenly, and is the same for ever.
func TestPlace(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 0.7, calendar.Place("acme", "nightly"), 0.3)
	require.Equal(t, calendar.Place("acme", "nightly"), calendar.Place("acme", "nightly"))
	require.NotEqual(t, calendar.Place("acme", "nightly"), calendar.Place("acmen", "ightly"))
	require.Equal(t, time.Duration(0), calendar.Delay(0.99, 0))
	require.Equal(t, 5*time.Minute, calendar.Delay(0.5, 10*time.Minute))
	require.Error(t, calendar.CheckSpread(-time.Second))
	require.Error(t, calendar.CheckSpread(25*time.Hour))
	require.NoError(t, calendar.CheckSpread(10*time.Minute))
}

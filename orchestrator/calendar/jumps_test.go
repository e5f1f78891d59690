package calendar_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// jumps are the changes of a zone's clocks from 2020 to 2037: what clocks show before and
// after, as Times in UTC.
func jumps(t *testing.T, zone string) (list [][2]time.Time) {
	t.Helper()
	location, err := calendar.CheckZone(zone)
	require.NoError(t, err)
	shows := func(at time.Time) time.Time {
		_, seconds := at.In(location).Zone()
		return at.UTC().Add(time.Duration(seconds) * time.Second)
	}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).In(location)
	for {
		_, end := at.ZoneBounds()
		if end.IsZero() || end.Year() > 2037 {
			return list
		}
		if from, to := shows(end.Add(-time.Second)).Add(time.Second), shows(end); !from.Equal(to) {
			list = append(list, [2]time.Time{from, to})
		}
		at = end.In(location)
	}
}

func upcoming(t *testing.T, spec calendar.Spec, from time.Time) (list []string) {
	t.Helper()
	s, err := calendar.New(spec)
	require.NoError(t, err, "%+v", spec)
	for _, o := range s.Upcoming(from, 6) {
		list = append(list, o.At.UTC().Format(time.RFC3339))
	}
	return list
}

// A window or a calendar that lets the named time pass changes nothing, on the night of
// any jump of any zone's clocks either: a time that does not exist fires at the end of the
// jump, though that lies outside the window or on another day.
func TestAWindowAroundTheNamedTimeChangesNothing(t *testing.T) {
	t.Parallel()
	nights, seen := 0, map[string]bool{}
	for _, zone := range allZones(t) {
		if _, err := calendar.CheckZone(zone); err != nil {
			continue
		}
		all := jumps(t, zone)
		if clocks := fmt.Sprint(all); seen[clocks] { // others go by the same
			continue
		} else {
			seen[clocks] = true
		}
		for _, jump := range all {
			nights++
			first, last := jump[0], jump[1]
			if last.Before(first) {
				first, last = last, first
			}
			for _, wall := range []time.Time{first, first.Add(5 * time.Minute), last.Add(-time.Minute), last} {
				spec := calendar.Spec{Cron: fmt.Sprintf("%d %d * * *", wall.Minute(), wall.Hour()), Zone: zone}
				from := wall.AddDate(0, 0, -3)
				plain := upcoming(t, spec, from)
				minute := wall.Hour()*60 + wall.Minute()
				for _, window := range [][2]int{{minute, minute + 1}, {minute - 20, minute + 3}, {minute - 200, minute + 200}} {
					from, to := (window[0]+1440)%1440, (window[1]+1440)%1440
					w, err := calendar.ParseWindow(fmt.Sprintf("%02d:%02d-%02d:%02d", from/60, from%60, to/60, to%60))
					require.NoError(t, err)
					spec.Windows = []calendar.Window{w}
					require.Equal(t, plain, upcoming(t, spec, wall.AddDate(0, 0, -3)), "%s, %s, window %s", zone, wall, w)
				}
				spec.Windows = nil
				named := wall.Format(time.DateOnly)
				days := calendar.DayRange{From: wall.AddDate(0, 0, 1).Format(time.DateOnly), To: wall.AddDate(0, 0, 30).Format(time.DateOnly)}
				exclude, err := calendar.NewDays("after", []calendar.DayRange{days})
				require.NoError(t, err)
				spec.Exclude = []calendar.Days{exclude}
				kept := 0
				for _, o := range plain { // up to the named day, which is the fourth or, east of UTC, near it
					s, err := calendar.New(calendar.Spec{Cron: spec.Cron, Zone: zone})
					require.NoError(t, err)
					at, err := time.Parse(time.RFC3339, o)
					require.NoError(t, err)
					if s.Named(at)[0].Format(time.DateOnly) <= named {
						kept++
					}
				}
				require.Equal(t, plain[:kept], upcoming(t, spec, from)[:kept], "%s, %s, the days after are excluded", zone, wall)
			}
		}
	}
	require.Greater(t, nights, 800, "%d clocks", len(seen))
}

// A named time that a window or a calendar bars is barred on the night of a jump as well,
// though the end of the jump is not.
func TestABarredTimeIsBarredOnTheNightOfAJump(t *testing.T) {
	t.Parallel()
	window := func(text string) []calendar.Window {
		w, err := calendar.ParseWindow(text)
		require.NoError(t, err)
		return []calendar.Window{w}
	}
	from := time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)
	_, err := calendar.New(calendar.Spec{Cron: "30 2 * * *", Zone: "America/New_York", Windows: window("03:00-04:00")})
	require.ErrorContains(t, err, "never fires inside its windows")
	require.Equal(t, []string{"2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"},
		upcoming(t, calendar.Spec{Cron: "30 2 * * *", Zone: "America/New_York", Windows: window("02:00-03:00")}, from.AddDate(0, 0, 1))[:2])
	day, err := calendar.NewDays("eighth", []calendar.DayRange{{From: "2026-03-08"}})
	require.NoError(t, err)
	require.Equal(t, []string{"2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"},
		upcoming(t, calendar.Spec{Cron: "30 2 * * *", Zone: "America/New_York", Exclude: []calendar.Days{day}}, from)[:2])

	// Of several times that one instant stands for, one that may fire is enough.
	require.Equal(t, "2026-03-08T07:00:00Z",
		upcoming(t, calendar.Spec{Cron: "10,50 2 * * *", Zone: "America/New_York", Windows: window("02:40-03:00")}, from.AddDate(0, 0, 1))[0])
	// Midnight that is jumped over belongs to its own day.
	require.Equal(t, []string{"2026-04-22T22:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"},
		upcoming(t, calendar.Spec{Cron: "0 0 * * *", Zone: "Africa/Cairo", Windows: window("00:00-01:00")}, time.Date(2026, 4, 22, 0, 0, 0, 0, time.UTC))[:3])
}

// A spread ends where its window does, and goes on where the next one follows at once.
func TestASpreadStaysInItsWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		windows []string
		at      string
		spread  time.Duration
		room    time.Duration
	}{
		{nil, "18:21", 3 * time.Minute, 3 * time.Minute},
		{[]string{"18:21-18:22"}, "18:21", 3 * time.Minute, time.Minute},
		{[]string{"18:00-18:30"}, "18:21", 3 * time.Minute, 3 * time.Minute},
		{[]string{"18:21-18:22", "18:22-18:23"}, "18:21", 3 * time.Minute, 2 * time.Minute},
		{[]string{"22:00-02:00"}, "23:59", 3 * time.Hour, 2*time.Hour + time.Minute},
		{[]string{"00:00-24:00"}, "23:59", time.Hour, time.Hour},
	} {
		spec := calendar.Spec{Cron: fmt.Sprintf("%s %s * * *", c.at[3:], c.at[:2]), Zone: "Europe/Paris"}
		for _, text := range c.windows {
			w, err := calendar.ParseWindow(text)
			require.NoError(t, err)
			spec.Windows = append(spec.Windows, w)
		}
		s, err := calendar.New(spec)
		require.NoError(t, err)
		at := s.Next(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
		require.Equal(t, c.room, s.Room(at, c.spread), "%v", c)
		require.Less(t, s.Delay(0.9999, c.spread, at), c.room)
		require.Zero(t, s.Delay(0, c.spread, at))
	}
	// At the end of a jump nothing is left of the window that was jumped over.
	w, err := calendar.ParseWindow("02:00-03:00")
	require.NoError(t, err)
	s, err := calendar.New(calendar.Spec{Cron: "30 2 * * *", Zone: "America/New_York", Windows: []calendar.Window{w}})
	require.NoError(t, err)
	require.Zero(t, s.Delay(0.5, time.Hour, time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC)))
}

// Times that a jump takes from a schedule of some hours are noted; one that goes on all
// day loses none.
func TestVanishedTimesAreNoted(t *testing.T) {
	t.Parallel()
	note := func(cron string) (notes string) {
		s, err := calendar.Parse(cron, "America/New_York")
		require.NoError(t, err)
		for _, o := range s.Upcoming(time.Date(2026, 3, 8, 5, 0, 0, 0, time.UTC), 12) {
			notes += o.Note
		}
		return notes
	}
	require.Equal(t, "before it: 02:00 to 02:40 do not exist on 2026-03-08 (the clocks go from 02:00 to 03:00), and do not fire", note("*/20 1-2 * * *"))
	require.Empty(t, note("*/20 * * * *"))
}

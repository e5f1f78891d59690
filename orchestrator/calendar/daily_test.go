package calendar_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// TestDailyFiresOnceADayInEveryZone walks daily schedules through every zone
// from 2020 to 2037: midnight through all days, other times through the days
// round each change of the clocks. Each calendar day has exactly one fire, on
// that day, with one exception: if the clocks jump over the time and past
// midnight, the fire is the end of the jump, the first instant of the next day.
func TestDailyFiresOnceADayInEveryZone(t *testing.T) {
	t.Parallel()
	zones := distinctZones(t)
	require.GreaterOrEqual(t, len(zones), 80/everyNthZone)
	for _, zone := range zones {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			checkDaily(t, parse(t, "0 0 * * *", zone), date(2020, 1, 1), date(2038, 1, 1))
			for _, change := range changes(t, zone) {
				day := date(change.Year(), change.Month(), change.Day())
				for _, clock := range []string{"30 0", "30 1", "0 2", "30 2", "15 3", "0 12", "0 23", "30 23"} {
					checkDaily(t, parse(t, clock+" * * *", zone), day.AddDate(0, 0, -3), day.AddDate(0, 0, 3))
				}
			}
		})
	}
}

// checkDaily walks s from the day first up to the day last.
func checkDaily(t *testing.T, s *calendar.Schedule, first, last time.Time) {
	fire := at(t, first.Format(time.DateTime), s.Zone()).Add(-time.Second)
	for day := first; day.Before(last); day = day.AddDate(0, 0, 1) {
		fire = s.Next(fire)
		if date(fire.Date()).Equal(day) {
			continue
		}
		start, _ := fire.ZoneBounds()
		if start.Equal(fire) && fire.Format(time.DateTime) == day.AddDate(0, 0, 1).Format(time.DateTime) {
			continue
		}
		t.Fatalf("%s in %s: the fire of %s came at %s", s.Expr(), s.Zone(), day.Format(time.DateOnly), fire)
	}
}

// TestHourlyFollowsTheHoursOfTheDay: an hourly schedule fires as often as a local
// day has hours: 24, 23 or 25 times where the clocks change by an hour. It looks at
// each day round a change from 2020 to 2037, and at one in thirteen of the others.
// (Troll, Vostok and Casey have changed theirs by two hours and by three.)
func TestHourlyFollowsTheHoursOfTheDay(t *testing.T) {
	t.Parallel()
	for _, zone := range distinctZones(t) {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			s, near := parse(t, "0 * * * *", zone), map[time.Time]bool{}
			for _, change := range changes(t, zone) {
				for n := -2; n <= 2; n++ {
					near[date(change.Date()).AddDate(0, 0, n)] = true
				}
			}
			midnight, n := parse(t, "0 0 * * *", zone), 0
			for day := date(2020, 1, 1); day.Year() < 2038; day = day.AddDate(0, 0, 1) {
				if n++; n%13 != 0 && !near[day] {
					continue
				}
				start := midnight.Next(at(t, day.Format(time.DateTime), zone).Add(-time.Second))
				end := midnight.Next(start)
				hours, fires := end.Sub(start).Hours(), s.Count(start.Add(-time.Second), end.Add(-time.Second))
				if diff := float64(fires) - hours; diff <= -1 || diff >= 1 || hours == 24 && fires != 24 {
					t.Fatalf("%d fires in %.1f hours, %s to %s", fires, hours, start, end)
				}
			}
		})
	}
}

// everyNthZone of those that behave differently is walked through.
var everyNthZone = 1

// distinctZones returns one of each set of zones that behave alike.
func distinctZones(t testing.TB) []string {
	zones, seen := []string(nil), map[string]bool{}
	for _, name := range allZones(t) {
		if _, err := calendar.CheckZone(name); err != nil {
			continue // an abbreviation
		}
		if life := fmt.Sprint(changes(t, name)); !seen[life] {
			seen[life] = true
			if len(seen)%everyNthZone == 0 {
				zones = append(zones, name)
			}
		}
	}
	return zones
}

// changes returns when a zone's offset changes from 2019 to 2038, and its
// offsets, as the zone of each time.
func changes(t testing.TB, zone string) []time.Time {
	when := at(t, "2019-01-01 00:00:00", zone)
	found := []time.Time(nil)
	for ; !when.IsZero() && when.Year() < 2039; _, when = when.ZoneBounds() {
		_, offset := when.Zone()
		if change := when.In(time.FixedZone("", offset)); len(found) == 0 || found[len(found)-1].Format("-07:00:00") != change.Format("-07:00:00") {
			found = append(found, change)
		}
	}
	return found
}

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

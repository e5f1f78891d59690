package calendar

import "time"

// A wall time is what a clock on the wall shows, kept as a Time in UTC: so it
// can be reckoned with, and no time is missing or comes twice. The functions of
// this file place wall times on the real time line of a zone. A policy for gaps
// and overlaps other than the one of the package comment would be made here.

// aDayAndMore is longer than any offset from UTC, local mean times included.
const aDayAndMore = 26 * time.Hour

// firstInstant returns the first instant at which clocks in zone show wall. If
// they never do, because they jumped over it, it returns the end of the jump.
//
// It walks through the zone's periods of constant offset, from one that is
// surely early enough. The first period that ends after wall would be shown in
// it decides: it either shows wall, or began after it.
func firstInstant(wall time.Time, zone *time.Location) time.Time {
	at := wall.Add(-aDayAndMore).In(zone)
	for {
		start, end := at.ZoneBounds()
		instant := wall.Add(-offset(at)).In(zone)
		switch {
		case !start.IsZero() && instant.Before(start):
			return start
		case end.IsZero() || instant.Before(end):
			return instant
		}
		at = end
	}
}

// nextFixed returns the first fire after the given time of a schedule that
// names fixed times: each matching wall time counts once, by firstInstant.
// nextWall must return the schedule's first match after a wall time.
//
// In the second pass of a repeated hour the matches of that hour lie in the
// past, hence the loop; it is as long as the hour has matches.
func nextFixed(nextWall func(time.Time) time.Time, after time.Time, zone *time.Location) time.Time {
	wall := showing(after.In(zone))
	for {
		wall = nextWall(wall)
		if instant := firstInstant(wall, zone); instant.After(after) {
			return instant
		}
	}
}

// nextElapsed returns the first fire after the given time of a schedule that
// follows elapsed time. Inside a period of constant offset wall and real time
// run alike; a match past its end is looked for again in the next period, of
// which the first instant itself may match.
func nextElapsed(nextWall func(time.Time) time.Time, after time.Time, zone *time.Location) time.Time {
	at := after.In(zone)
	wall := showing(at)
	for {
		_, end := at.ZoneBounds()
		instant := nextWall(wall).Add(-offset(at))
		if end.IsZero() || instant.Before(end) {
			return instant
		}
		at = end
		wall = showing(at).Add(-time.Nanosecond)
	}
}

// showing returns the wall time that clocks show at t in t's own location.
func showing(t time.Time) time.Time { return t.UTC().Add(offset(t)) }

// offset returns how far t's location is ahead of UTC at t.
func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

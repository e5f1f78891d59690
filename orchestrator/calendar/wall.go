package calendar

import "time"

// A wall time is what a clock on the wall shows, kept as a Time in UTC: so it
// can be reckoned with, and no time is missing or comes twice. The functions of
// this file place wall times on the real time line of a zone.

// aDayAndMore is longer than any offset from UTC, local mean times included.
const aDayAndMore = 26 * time.Hour

// firstInstant returns the first instant at which clocks in zone show wall. If
// they never do, because they jumped over it, it returns the end of the jump and
// that it is one.
//
// It walks through the zone's periods of constant offset, from one that is
// surely early enough. The first period that ends after wall would be shown in
// it decides: it either shows wall, or began after it.
func firstInstant(wall time.Time, zone *time.Location) (at time.Time, gap bool) {
	at = wall.Add(-aDayAndMore).In(zone)
	for {
		start, end := bounds(at)
		instant := wall.Add(-offset(at)).In(zone)
		switch {
		case !start.IsZero() && instant.Before(start):
			return start, true
		case end.IsZero() || instant.Before(end):
			return instant, false
		}
		at = end
	}
}

// lastInstant is firstInstant for the last time that clocks show wall.
func lastInstant(wall time.Time, zone *time.Location) (at time.Time, gap bool) {
	last, gap := firstInstant(wall, zone)
	if gap {
		return last, true
	}
	for at = last; ; {
		_, end := bounds(at)
		if end.IsZero() || end.After(wall.Add(aDayAndMore)) {
			return last, false
		}
		at = end
		if instant := wall.Add(-offset(at)).In(zone); !instant.Before(at) {
			if _, next := bounds(at); next.IsZero() || instant.Before(next) {
				last = instant
			}
		}
	}
}

// nextFixed returns the first fire after the given time of a schedule whose
// matching wall times count once each, where place puts them: firstInstant or
// lastInstant. Both keep the order of wall times.
//
// In the second pass of a repeated hour the matches of that hour lie in the
// past for firstInstant, hence the loop; it is as long as the hour has matches.
// In the first pass the matches already shown come again for lastInstant, hence
// the step back.
func (s *Schedule) nextFixed(after time.Time, place func(time.Time, *time.Location) (time.Time, bool)) time.Time {
	at := after.In(s.zone)
	wall := showing(at)
	if _, end := bounds(at); s.repeat != RepeatFirst && !end.IsZero() {
		if back := showing(end.In(s.zone)).Add(-time.Nanosecond); back.Before(wall) {
			wall = back
		}
	}
	for wall.Year() <= lastYear+1 {
		wall = s.nextWall(wall)
		if instant, gap := place(wall, s.zone); instant.After(after) && (!gap || s.gap == GapNext) {
			return instant
		}
	}
	return time.Time{}
}

// nextElapsed returns the first fire after the given time of a schedule that
// follows elapsed time. Inside a period of constant offset wall and real time
// run alike; a match past its end is looked for again in the next period, of
// which the first instant itself may match.
func nextElapsed(nextWall func(time.Time) time.Time, after time.Time, zone *time.Location) time.Time {
	at := after.In(zone)
	wall := showing(at)
	for {
		_, end := bounds(at)
		instant := nextWall(wall).Add(-offset(at))
		if end.IsZero() || instant.Before(end) {
			return instant
		}
		at = end
		wall = showing(at).Add(-time.Nanosecond)
	}
}

// bounds is t.ZoneBounds without its faults after 2037, when zones go by a rule
// and not by a list: there a period also ends at the end of a leap year, though the
// offset stays, and on its last day ends before it goes on.
func bounds(t time.Time) (start, end time.Time) {
	start, end = t.ZoneBounds()
	if t.Year() < 2037 {
		return start, end
	}
	const beyond = 48 * time.Hour
	for at := t; !end.IsZero() && (!end.After(t) || offset(end) == offset(t)); {
		at = at.Add(beyond)
		if end.After(at) {
			at = end.Add(beyond)
		}
		if offset(at) != offset(t) { // not seen in any zone: a change within two days of a new year
			end = at
			break
		}
		_, end = at.ZoneBounds()
	}
	for start.Year() >= 2037 && offset(start.Add(-time.Second)) == offset(t) {
		start, _ = start.Add(-beyond).ZoneBounds()
	}
	return start, end
}

// showing returns the wall time that clocks show at t in t's own location.
func showing(t time.Time) time.Time { return t.UTC().Add(offset(t)) }

// offset returns how far t's location is ahead of UTC at t.
func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

package calendar

import (
	"fmt"
	"time"
)

// Occurrence is one time at which a schedule fires.
type Occurrence struct {
	At   time.Time // in the schedule's zone
	Note string    // what the clocks of that day do to it, or ""
}

// Between returns the occurrences after from and up to to, at most so many, and
// whether there are more.
func (s *Schedule) Between(from, to time.Time, most int) (list []Occurrence, more bool) {
	for at := from; ; {
		next := s.Next(at)
		if next.IsZero() || next.After(to) {
			return list, false
		}
		if len(list) == most {
			return list, true
		}
		list = append(list, Occurrence{At: next, Note: s.note(at, next)})
		at = next
	}
}

// Upcoming returns the first n occurrences after a time.
func (s *Schedule) Upcoming(after time.Time, n int) []Occurrence {
	list, _ := s.Between(after, time.Date(lastYear, 12, 31, 23, 59, 59, 0, time.UTC), n)
	return list
}

// Note says what the clocks do to the occurrence at a time, or "".
func (s *Schedule) Note(at time.Time) string { return s.note(at.Add(-time.Second), at.In(s.zone)) }

// note says what the clocks do to an occurrence, and what they did to others
// since the time before it.
func (s *Schedule) note(before, at time.Time) string {
	if s.every > 0 {
		return ""
	}
	if start, _ := bounds(at); start.Equal(at) && s.gap == GapNext {
		if gap, ok := s.gapAt(start); ok && !gap.first.IsZero() {
			return fmt.Sprintf("%s does not exist on this day (the clocks go from %s to %s): fires at the end of the jump", gap.first.Format("15:04"), gap.from.Format("15:04"), gap.to.Format("15:04"))
		}
	}
	wall := showing(at)
	first, _ := firstInstant(wall, s.zone)
	last, _ := lastInstant(wall, s.zone)
	switch {
	case !first.Equal(last) && at.Equal(first):
		return wall.Format("15:04") + " comes twice on this day: this is the first"
	case !first.Equal(last):
		return wall.Format("15:04") + " comes twice on this day: this is the second"
	case s.elapsed && s.gap == GapSkip:
		return s.vanished(before, at)
	case s.gap == GapSkip:
		for _, skip := range s.Skips(before, at) {
			if skip.Reason == SkipDST {
				return "before it: " + skip.Note
			}
		}
	}
	return ""
}

// vanished names times of a schedule that follows elapsed time and is for some hours only:
// a jump of the clocks takes them away. One that goes on all day loses nothing.
func (s *Schedule) vanished(before, at time.Time) string {
	if s.allDay {
		return ""
	}
	for start, _ := bounds(at); start.After(before); start, _ = bounds(start.Add(-time.Second).In(s.zone)) {
		if gap, ok := s.gapAt(start); ok && gap.count > 0 {
			return fmt.Sprintf("before it: %s to %s do not exist on %s (the clocks go from %s to %s), and do not fire",
				gap.first.Format("15:04"), gap.last.Format("15:04"), gap.first.Format(time.DateOnly), gap.from.Format("15:04"), gap.to.Format("15:04"))
		}
	}
	return ""
}

// jump is a change of the clocks forwards.
type jump struct {
	from, to    time.Time // wall times, before and after
	first, last time.Time // of the named wall times between; zero if there are none
	count       int
}

// gapAt returns the jump that ends at an instant; false if the clocks go back
// there.
func (s *Schedule) gapAt(end time.Time) (jump, bool) {
	before := end.Add(-time.Second)
	j := jump{from: showing(before).Add(time.Second), to: showing(end)}
	if !j.from.Before(j.to) {
		return j, false
	}
	j.first, j.last, j.count = s.named(j.from, j.to)
	return j, true
}

// Named returns the wall times that an instant of the schedule stands for, as Times in
// UTC: what clocks show then or, at the end of a jump of the clocks, those of the jump
// that the expression names. There is at least one.
func (s *Schedule) Named(at time.Time) []time.Time {
	at = at.In(s.zone)
	if start, _ := bounds(at); s.every == 0 && s.gap == GapNext && start.Equal(at) {
		if gap, ok := s.gapAt(at); ok && gap.count > 0 {
			walls := make([]time.Time, 0, gap.count+1)
			for wall := gap.first; !wall.After(gap.to); wall = s.nextWall(wall) {
				walls = append(walls, wall)
			}
			return walls
		}
	}
	return []time.Time{showing(at)}
}

// named returns the first and last of the named wall times from one to before
// another, and how many there are.
func (s *Schedule) named(from, to time.Time) (first, last time.Time, count int) {
	for wall := s.nextWall(from.Add(-time.Nanosecond)); wall.Before(to); wall = s.nextWall(wall) {
		if count++; count == 1 {
			first = wall
		}
		last = wall
	}
	return first, last, count
}

// At answers for what a clock on the wall of the schedule's zone shows, given as a
// Time in UTC: the instants that show it (two where it comes twice, the end of the
// jump where it does not exist), what the clocks of that day do to it, and whether
// the schedule names it at all.
func (s *Schedule) At(wall time.Time) (at []time.Time, note string, named bool) {
	first, gap := firstInstant(wall, s.zone)
	at = []time.Time{first.In(s.zone)}
	if s.every > 0 {
		return at, "", s.raw(first.Add(-time.Nanosecond)).Equal(first)
	}
	if gap {
		return at, wall.Format("15:04") + " does not exist on this day: the clocks jump over it", s.names(wall)
	}
	if last, _ := lastInstant(wall, s.zone); !last.Equal(first) {
		at, note = append(at, last.In(s.zone)), wall.Format("15:04")+" comes twice on this day"
	}
	return at, note, s.names(wall)
}

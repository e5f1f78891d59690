package calendar

import (
	"fmt"
	"time"
)

// Gap says what becomes of a wall time that the clocks jump over.
type Gap string

// The policies for a gap. The zero value means the schedule's own nature:
// GapNext where it names fixed times, GapSkip where it follows elapsed time.
const (
	GapNext Gap = "next" // fires at the end of the jump
	GapSkip Gap = "skip" // does not fire
)

// Repeat says what becomes of a wall time that comes twice.
type Repeat string

// The policies for a repeated wall time. The zero value means the schedule's own
// nature: RepeatFirst where it names fixed times, RepeatBoth where it follows
// elapsed time.
const (
	RepeatFirst Repeat = "first"
	RepeatLast  Repeat = "last"
	RepeatBoth  Repeat = "both"
)

func (p Gap) check() error {
	switch p {
	case "", GapNext, GapSkip:
		return nil
	}
	return fmt.Errorf("gap %s: write next (fire at the end of the jump) or skip", shown(string(p)))
}

func (p Repeat) check() error {
	switch p {
	case "", RepeatFirst, RepeatLast, RepeatBoth:
		return nil
	}
	return fmt.Errorf("repeat %s: write first, last or both", shown(string(p)))
}

// settle replaces the zero policies by what suits the expression.
func (s *Schedule) settle(spec Spec) {
	s.gap, s.repeat = spec.Gap, spec.Repeat
	if s.gap == "" {
		s.gap = GapNext
		if s.elapsed {
			s.gap = GapSkip
		}
	}
	if s.repeat == "" {
		s.repeat = RepeatFirst
		if s.elapsed {
			s.repeat = RepeatBoth
		}
	}
}

// raw returns the first time after the given one that the expression and the
// DST policies give, whatever start, end, calendars and windows say. The zero
// Time means none before the year 10000.
func (s *Schedule) raw(after time.Time) time.Time {
	switch {
	case s.every > 0:
		return nextMultiple(after, s.anchor, s.every)
	case s.elapsed && s.gap == GapSkip && s.repeat == RepeatBoth:
		return nextElapsed(s.nextWall, after, s.zone)
	case s.repeat == RepeatFirst:
		return s.nextFixed(after, firstInstant)
	case s.repeat == RepeatLast:
		return s.nextFixed(after, lastInstant)
	default:
		first, last := s.nextFixed(after, firstInstant), s.nextFixed(after, lastInstant)
		if last.IsZero() || !first.IsZero() && first.Before(last) {
			return first
		}
		return last
	}
}

package calendar

import (
	"fmt"
	"time"
)

// SkipReason says why a time that the expression names does not fire.
type SkipReason string

// The reasons.
const (
	SkipDST      SkipReason = "dst"      // by the policies for gaps and repeated times
	SkipExcluded SkipReason = "excluded" // by an exclusion calendar or a window
)

// Skip is a run of times that the expression names and that do not fire.
type Skip struct {
	From, To time.Time // of the first and the last; in a gap both are its end
	Count    int       // at least, if Bounded
	Bounded  bool      // there were more than are counted in one call
	Reason   SkipReason
	Note     string
}

// mostSkips bounds the named times that one Skips looks at.
const mostSkips = 100_000

// Skips returns the runs after one time and up to another, in no order. Only a
// schedule of fixed times skips anything for DST: one that follows elapsed time
// names no wall time.
func (s *Schedule) Skips(after, upto time.Time) []Skip {
	if !s.start.IsZero() && after.Before(s.start) {
		after = s.start.Add(-time.Nanosecond)
	}
	if !s.end.IsZero() && upto.After(s.end) {
		upto = s.end
	}
	var skips []Skip
	if s.every == 0 && !s.elapsed {
		skips = s.dstSkips(after.In(s.zone), upto)
	}
	if len(s.exclude) > 0 || len(s.windows) > 0 {
		skips = append(skips, s.barredRuns(after, upto)...)
	}
	return skips
}

func (s *Schedule) dstSkips(after, upto time.Time) (skips []Skip) {
	for at := after; ; {
		start, end := bounds(at)
		if !start.IsZero() && start.After(after) && !start.After(upto) {
			if j, ok := s.gapAt(start); ok && s.gap == GapSkip && j.count > 0 {
				skips = append(skips, Skip{From: start, To: start, Count: j.count, Reason: SkipDST,
					Note: fmt.Sprintf("%s does not exist on %s (the clocks go from %s to %s)", j.first.Format("15:04"), j.first.Format(time.DateOnly), j.from.Format("15:04"), j.to.Format("15:04"))})
			}
		}
		if skip, ok := s.repeatSkip(start); ok && skip.From.After(after) && !skip.To.After(upto) {
			skips = append(skips, skip)
		}
		if end.IsZero() || end.After(upto) {
			return skips
		}
		at = end.In(s.zone)
	}
}

// repeatSkip returns the pass of a repeated span that does not fire, if the
// clocks went back at an instant.
func (s *Schedule) repeatSkip(start time.Time) (Skip, bool) {
	if start.IsZero() || s.repeat == RepeatBoth {
		return Skip{}, false
	}
	from, to := showing(start), showing(start.Add(-time.Second)).Add(time.Second)
	if !from.Before(to) {
		return Skip{}, false
	}
	first, last, count := s.named(from, to)
	if count == 0 {
		return Skip{}, false
	}
	place, which := lastInstant, "second"
	if s.repeat == RepeatLast {
		place, which = firstInstant, "first"
	}
	begin, _ := place(first, s.zone)
	end, _ := place(last, s.zone)
	return Skip{From: begin, To: end, Count: count, Reason: SkipDST,
		Note: fmt.Sprintf("%s comes twice on %s, and the %s does not fire", first.Format("15:04"), first.Format(time.DateOnly), which)}, true
}

// barredRuns returns what calendars and windows keep from firing, neighbours
// with one reason as one.
func (s *Schedule) barredRuns(after, upto time.Time) (runs []Skip) {
	at := after
	for range mostSkips {
		if at = s.nextRaw(at); at.IsZero() || at.After(upto) {
			return runs
		}
		why, _ := s.barred(at)
		switch n := len(runs); {
		case why == "":
			continue
		case n > 0 && runs[n-1].Note == why && s.Next(runs[n-1].To).After(at):
			runs[n-1].To = at
			runs[n-1].Count++
		default:
			runs = append(runs, Skip{From: at, To: at, Count: 1, Reason: SkipExcluded, Note: why})
		}
	}
	if n := len(runs); n > 0 {
		runs[n-1].To, runs[n-1].Bounded = upto, true
	}
	return runs
}

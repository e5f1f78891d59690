package calendar

import (
	"fmt"
	"hash/fnv"
	"time"
)

// MaxSpread bounds a spread.
const MaxSpread = 24 * time.Hour

// CheckSpread refuses a spread that is no whole number of seconds up to MaxSpread.
func CheckSpread(spread time.Duration) error {
	if spread < 0 || spread > MaxSpread || spread%time.Second != 0 {
		return fmt.Errorf("spread %s: give whole seconds, 0s (none) to %s", spread, MaxSpread)
	}
	return nil
}

// Place turns names into a place in a window, 0 to 1 (excluded), the same for
// ever: a stable hash.
func Place(names ...string) float64 {
	sum := fnv.New64a()
	for _, name := range names {
		_, _ = sum.Write(append([]byte(name), 0)) // a hash takes all
	}
	mixed := sum.Sum64() // neighbouring names differ in low bits: mix them upwards (splitmix64)
	mixed = (mixed ^ mixed>>30) * 0xbf58476d1ce4e5b9
	mixed = (mixed ^ mixed>>27) * 0x94d049bb133111eb
	return float64((mixed^mixed>>31)>>11) / (1 << 53)
}

// Delay is how long after its time an occurrence starts, at its place in the spread. It
// stays inside the schedule's windows: where less is left of them than the spread, that
// is what is spread over.
func (s *Schedule) Delay(place float64, spread time.Duration, at time.Time) time.Duration {
	return Delay(place, s.Room(at, spread))
}

// Room is how much of a spread the windows leave behind an occurrence: all of it if
// there are none.
func (s *Schedule) Room(at time.Time, spread time.Duration) time.Duration {
	if len(s.windows) == 0 || spread <= 0 {
		return spread
	}
	end := at
	for _, wall := range s.Named(at) {
		end = later(end, s.closes(wall))
	}
	for end.Before(at.Add(spread)) { // the next window may follow without a gap
		next := later(end, s.closes(showing(end.In(s.zone))))
		if next.Equal(end) {
			break
		}
		end = next
	}
	return min(spread, end.Sub(at))
}

// closes is the last end of the windows that hold a wall time, zero if none does.
func (s *Schedule) closes(wall time.Time) (end time.Time) {
	for _, w := range s.windows {
		if wallEnd, ok := w.ClosesAt(wall); ok {
			at, _ := firstInstant(wallEnd, s.zone)
			end = later(end, at)
		}
	}
	return end
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Delay is how long after its time an occurrence at such a place starts: whole
// seconds below spread.
func Delay(place float64, spread time.Duration) time.Duration {
	return time.Duration(place*float64(spread/time.Second)) * time.Second
}

package calendar

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Days is a named calendar of days on which nothing fires, such as the holidays
// of a country. Schedules share it.
type Days struct {
	Name   string
	Ranges []DayRange // sorted, apart: as [NewDays] makes them
}

// DayRange is from one day to another, both included, written 2026-12-24.
type DayRange struct {
	From string `json:"from"`
	To   string `json:"to"`
	Note string `json:"note,omitempty"`
}

// MaxDayRanges bounds one calendar.
const MaxDayRanges = 5000

// NewDays checks the days of a calendar and sorts them.
func NewDays(name string, ranges []DayRange) (Days, error) {
	if len(ranges) > MaxDayRanges {
		return Days{}, fmt.Errorf("calendar %s has %d ranges of days: at most %d", shown(name), len(ranges), MaxDayRanges)
	}
	sorted := slices.Clone(ranges)
	for i := range sorted {
		r := &sorted[i]
		if r.To == "" {
			r.To = r.From
		}
		for _, day := range []string{r.From, r.To} {
			if _, err := time.Parse(time.DateOnly, day); err != nil {
				return Days{}, fmt.Errorf("calendar %s: %s is no day: write it as 2026-12-24", shown(name), shown(day))
			}
		}
		if r.To < r.From {
			return Days{}, fmt.Errorf("calendar %s: the range %s to %s runs backwards", shown(name), r.From, r.To)
		}
	}
	slices.SortFunc(sorted, func(a, b DayRange) int { return strings.Compare(a.From, b.From) })
	apart := sorted[:0]
	for _, r := range sorted {
		if n := len(apart); n > 0 && r.From <= apart[n-1].To {
			apart[n-1].To = max(apart[n-1].To, r.To)
			continue
		}
		apart = append(apart, r)
	}
	return Days{Name: name, Ranges: apart}, nil
}

// holds returns the range that a day lies in.
func (d Days) holds(day string) (DayRange, bool) {
	i, _ := slices.BinarySearchFunc(d.Ranges, day, func(r DayRange, day string) int { return strings.Compare(r.To, day) })
	if i < len(d.Ranges) && d.Ranges[i].From <= day {
		return d.Ranges[i], true
	}
	return DayRange{}, false
}

// barred says why nothing fires at a time of the expression, "" if nothing
// speaks against it, and the earliest time at which that reason may be over. What
// counts is the time that the expression names, also where the clocks jump over it:
// an instant is barred if every time is that it stands for.
func (s *Schedule) barred(at time.Time) (why string, free time.Time) {
	if len(s.exclude) == 0 && len(s.windows) == 0 {
		return "", at
	}
	for i, wall := range s.Named(at) {
		barred, until := s.barredWall(wall, at)
		if barred == "" {
			return "", at
		}
		if i == 0 || until.Before(free) {
			why, free = barred, until
		}
	}
	return why, free
}

// barredWall is barred for one of the wall times that an instant stands for.
func (s *Schedule) barredWall(wall, at time.Time) (why string, free time.Time) {
	if len(s.exclude) > 0 {
		day := wall.Format(time.DateOnly)
		for _, days := range s.exclude {
			if r, ok := days.holds(day); ok {
				last, _ := time.Parse(time.DateOnly, r.To) // NewDays has checked it
				free, _ := firstInstant(last.AddDate(0, 0, 1), s.zone)
				why := "calendar " + days.Name
				if r.Note != "" {
					why += " (" + r.Note + ")"
				}
				return why, free
			}
		}
	}
	if len(s.windows) > 0 {
		if !slices.ContainsFunc(s.windows, func(w Window) bool { return w.Holds(wall) }) {
			return "outside its windows", s.nextOpening(at)
		}
	}
	return "", at
}

// nextOpening returns the earliest start of a window after a time.
func (s *Schedule) nextOpening(at time.Time) time.Time {
	best := time.Time{}
	for _, w := range s.windows {
		if opening := w.NextOpening(at); best.IsZero() || opening.Before(best) {
			best = opening
		}
	}
	return best
}

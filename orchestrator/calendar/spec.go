package calendar

import (
	"fmt"
	"strings"
	"time"
)

// Spec is everything that says when a schedule fires. Cron and Zone are
// required, the zero value of the rest changes nothing.
type Spec struct {
	Cron string // five fields, @daily and the like, or @every 10m
	Zone string // IANA name

	Gap    Gap    // for a time that the clocks jump over
	Repeat Repeat // for a time that comes twice

	// Start is the first time that may fire, End the last. The intervals of
	// @every are counted from Start; from the Unix epoch in UTC without one.
	Start, End time.Time

	// Max is how many occurrences there are, counted from Start, which it needs;
	// at most MaxOccurrences. What an exclusion takes away does not count. 0 means no
	// bound.
	Max int

	// Exclude are calendars on whose days nothing fires. The days are those of
	// Zone.
	Exclude []Days

	// Windows, if there are any, are the only times of the day that fire.
	Windows []Window
}

// Bounds of a Spec.
const (
	MaxOccurrences = 100_000
	maxWindows     = 50
	maxCalendars   = 20
)

// New checks spec and returns its schedule. An error is one sentence that names
// the field, quotes what was written in it, cut to a bounded length, and says what
// is allowed. With Max it takes up to 100 ms, otherwise microseconds; see [Cached].
func New(spec Spec) (*Schedule, error) {
	location, err := CheckZone(spec.Zone)
	if err != nil {
		return nil, &FieldError{"timezone", err}
	}
	if err := checkText(spec.Cron); err != nil {
		return nil, &FieldError{"cron", err}
	}
	s := &Schedule{expr: strings.Trim(spec.Cron, " \t"), zone: location, start: spec.Start, end: spec.End}
	if strings.HasPrefix(s.expr, "@") {
		err = s.parseDescriptor()
	} else {
		err = s.parseFields(s.expr)
	}
	if err != nil {
		return nil, &FieldError{"cron", err}
	}
	if err := s.bound(spec); err != nil {
		return nil, err
	}
	s.settle(spec)
	if err := s.firesAtAll(spec); err != nil {
		return nil, &FieldError{"cron", err}
	}
	return s, nil
}

// FieldError is the refusal of one field of a [Spec], by the word that people write:
// timezone, cron, gap, repeat, start, end, max, windows or calendars. Its sentence is the
// cause's.
type FieldError struct {
	Field string
	err   error
}

func (e *FieldError) Error() string { return e.err.Error() }
func (e *FieldError) Unwrap() error { return e.err }

func refuse(field, format string, args ...any) error {
	return &FieldError{field, fmt.Errorf(format, args...)}
}

// bound checks and takes over what narrows the expression.
func (s *Schedule) bound(spec Spec) error {
	if err := spec.Gap.check(); err != nil {
		return &FieldError{"gap", err}
	}
	if err := spec.Repeat.check(); err != nil {
		return &FieldError{"repeat", err}
	}
	for name, at := range map[string]time.Time{"start": spec.Start, "end": spec.End} {
		if !at.IsZero() && (at.Year() < 1970 || at.Year() > lastYear) {
			return refuse(name, "%s %s: give a time from 1970 to %d", name, at.Format(time.RFC3339), lastYear)
		}
	}
	switch {
	case !spec.Start.IsZero() && !spec.End.IsZero() && spec.End.Before(spec.Start):
		return refuse("end", "end %s is before start %s: nothing would fire", spec.End.UTC().Format(time.RFC3339), spec.Start.UTC().Format(time.RFC3339))
	case spec.Max < 0 || spec.Max > MaxOccurrences:
		return refuse("max", "max occurrences is %d: give 1 to %d, or none for no bound", spec.Max, MaxOccurrences)
	case spec.Max > 0 && spec.Start.IsZero():
		return refuse("max", "max occurrences is %d without a start: they are counted from it", spec.Max)
	case len(spec.Windows) > maxWindows:
		return refuse("windows", "%d windows: at most %d", len(spec.Windows), maxWindows)
	case len(spec.Exclude) > maxCalendars:
		return refuse("calendars", "%d exclusion calendars: at most %d", len(spec.Exclude), maxCalendars)
	}
	if !spec.Start.IsZero() {
		s.anchor = spec.Start.Truncate(time.Second)
	}
	s.exclude, s.windows = spec.Exclude, spec.Windows
	return nil
}

// firesAtAll refuses what the bounds leave nothing of, and finds the end that Max
// means.
func (s *Schedule) firesAtAll(spec Spec) error {
	if spec.Max == 0 && len(spec.Windows) == 0 && len(spec.Exclude) == 0 && spec.End.IsZero() {
		return nil
	}
	from := spec.Start
	if from.IsZero() {
		if from = spec.End; !from.IsZero() {
			from = from.AddDate(-5, 0, 0)
		} else {
			from = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	}
	last := s.Next(from.Add(-time.Second))
	if last.IsZero() {
		switch {
		case len(spec.Windows) > 0:
			return fmt.Errorf("cron expression %s never fires inside its windows (%s): change one of them", shown(s.expr), joinWindows(spec.Windows))
		case len(spec.Exclude) > 0:
			return fmt.Errorf("cron expression %s never fires outside its exclusion calendars: change one of them", shown(s.expr))
		}
		return fmt.Errorf("cron expression %s never fires before its end %s", shown(s.expr), spec.End.UTC().Format(time.RFC3339))
	}
	for n := 1; n < spec.Max; n++ {
		next := s.Next(last)
		if next.IsZero() {
			break
		}
		last = next
	}
	if spec.Max > 0 {
		s.end = last
	}
	return nil
}

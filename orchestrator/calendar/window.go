package calendar

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a span of the day on some weekdays, by a clock on the wall. One that
// runs over midnight belongs to the day on which it begins.
type Window struct {
	days     [7]bool // from Sunday
	from, to int     // minutes of the day; from > to runs over midnight, to may be 1440
	text     string
}

const windowForm = `write "01:00-05:00", "MON-FRI 22:00-04:00" or "SAT,SUN 00:00-24:00"`

// ParseWindow reads a window: HH:MM-HH:MM, before it the weekdays, every day
// without them.
func ParseWindow(text string) (Window, error) {
	wrong := func(why string) (Window, error) {
		return Window{}, fmt.Errorf("window %s: %s: %s", shown(text), why, windowForm)
	}
	if len(text) > 100 {
		return wrong("too long")
	}
	parts := strings.Fields(text)
	if len(parts) != 1 && len(parts) != 2 {
		return wrong("not weekdays and a span of the day")
	}
	w := Window{text: strings.Join(parts, " ")}
	days := "*"
	if len(parts) == 2 {
		days = strings.ToUpper(parts[0])
	}
	weekday := fields[4]
	if err := weekday.check(days); err != nil {
		return wrong(err.Error())
	}
	for day := range w.days {
		w.days[day] = slices.Contains(weekday.values(days), day)
	}
	first, last, ok := strings.Cut(parts[len(parts)-1], "-")
	from, okFrom := minuteOfDay(first)
	to, okTo := minuteOfDay(last)
	switch {
	case !ok || !okFrom || !okTo || from == 24*60:
		return wrong("not a span of the day")
	case from == to:
		return wrong("it is empty")
	}
	w.from, w.to = from, to
	return w, nil
}

func minuteOfDay(text string) (int, bool) {
	h, m, ok := strings.Cut(text, ":")
	hour, okHour := number(h)
	minute, okMinute := number(m)
	if !ok || !okHour || !okMinute || len(h) != 2 || len(m) != 2 || minute > 59 || hour > 24 || hour == 24 && minute > 0 {
		return 0, false
	}
	return hour*60 + minute, true
}

// String is the window as it was written.
func (w Window) String() string { return w.text }

// Holds tells whether a time lies in the window, by the clock of its location.
func (w Window) Holds(t time.Time) bool {
	_, ok := w.opened(showing(t))
	return ok
}

// Closes returns the end of the window that t lies in, by the clock of its
// location; false if it lies in none.
func (w Window) Closes(t time.Time) (time.Time, bool) {
	wall, ok := w.ClosesAt(showing(t))
	if !ok {
		return time.Time{}, false
	}
	end, _ := firstInstant(wall, t.Location())
	return end, true
}

// ClosesAt is Closes for what a clock on the wall shows, a Time in UTC.
func (w Window) ClosesAt(wall time.Time) (time.Time, bool) {
	midnight, ok := w.opened(wall)
	if !ok {
		return time.Time{}, false
	}
	to := w.to
	if w.from > w.to {
		to += 24 * 60
	}
	return midnight.Add(time.Duration(to) * time.Minute), true
}

// opened returns the wall midnight of the day on which the window that holds a wall
// time began.
func (w Window) opened(wall time.Time) (time.Time, bool) {
	midnight := wall.Truncate(24 * time.Hour)
	minute, day := int(wall.Sub(midnight)/time.Minute), int(wall.Weekday())
	switch {
	case w.from < w.to:
		return midnight, w.days[day] && minute >= w.from && minute < w.to
	case minute >= w.from:
		return midnight, w.days[day]
	case minute < w.to:
		return midnight.AddDate(0, 0, -1), w.days[(day+6)%7]
	}
	return midnight, false
}

// NextOpening returns the window's first beginning after t.
func (w Window) NextOpening(t time.Time) time.Time {
	midnight := showing(t).Truncate(24 * time.Hour)
	for n := range 9 {
		day := midnight.AddDate(0, 0, n)
		if opening, _ := firstInstant(day.Add(time.Duration(w.from)*time.Minute), t.Location()); w.days[int(day.Weekday())] && opening.After(t) {
			return opening
		}
	}
	return t.AddDate(0, 0, 9) // not reached: some weekday comes within eight days
}

func joinWindows(windows []Window) string {
	texts := make([]string, len(windows))
	for i, w := range windows {
		texts[i] = w.text
	}
	return strings.Join(texts, ", ")
}

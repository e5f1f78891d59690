package calendar

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Words says in English when the schedule fires: "every weekday at 07:00
// (Europe/Paris)". It leaves out what calendars and windows take away.
func (s *Schedule) Words() string {
	var text string
	if s.every > 0 {
		text = "every " + durationWords(s.every)
		if !s.anchor.IsZero() {
			text += ", counted from " + s.anchor.In(s.zone).Format("2006-01-02 15:04:05")
		}
	} else {
		often, at := s.timeWords()
		switch days := s.dayWords(); {
		case at != "":
			text = days + " at " + at
		case days == "every day":
			text = often
		default:
			text = often + ", " + days
		}
	}
	text += " (" + s.Zone() + ")"
	if len(s.windows) > 0 {
		text += ", only within " + joinWindows(s.windows)
	}
	for _, days := range s.exclude {
		text += ", not on the days of " + days.Name
	}
	if !s.end.IsZero() {
		text += ", until " + s.end.In(s.zone).Format("2006-01-02 15:04:05")
	}
	return text
}

// timeWords says how often a day, or at which times of it: one of the two.
func (s *Schedule) timeWords() (often, at string) {
	minutes, hours := values(s.spec.Minute), values(s.spec.Hour)
	everyMinute, everyHour := len(minutes) == 60, len(hours) == 24
	step, hourStep := stride(minutes, 60), stride(hours, 24)
	switch {
	case !everyMinute && !everyHour && hourStep == 0 && len(minutes)*len(hours) <= 6:
		var times []string
		for _, h := range hours {
			for _, m := range minutes {
				times = append(times, fmt.Sprintf("%02d:%02d", h, m))
			}
		}
		return "", and(times)
	case everyMinute:
		often = "every minute"
	case step > 0:
		often = fmt.Sprintf("every %d minutes", step)
	case len(minutes) == 1 && hourStep > 0:
		often = fmt.Sprintf("every %d hours", hourStep)
		if minutes[0] != 0 {
			often += fmt.Sprintf(" at minute %d", minutes[0])
		}
		return often, ""
	case len(minutes) == 1 && minutes[0] == 0 && everyHour:
		return "every hour", ""
	case len(minutes) == 1 && minutes[0] == 0:
		often = "on the hour"
	case len(minutes) == 1:
		often = fmt.Sprintf("at minute %d of every hour", minutes[0])
	default:
		often = "at minutes " + spans(minutes) + " of every hour"
	}
	if everyHour {
		return often, ""
	}
	return strings.TrimSuffix(often, " of every hour") + " in the hours " + spans(hours), ""
}

// dayWords says on which days.
func (s *Schedule) dayWords() string {
	days, months, weekdays := values(s.spec.Dom), values(s.spec.Month), values(s.spec.Dow)
	anyDay, anyWeekday := s.spec.Dom&starBit != 0, s.spec.Dow&starBit != 0
	in := ""
	if len(months) < 12 {
		var names []string
		for _, m := range months {
			names = append(names, time.Month(m).String())
		}
		in = and(names)
	}
	var date string
	switch {
	case len(days) == 31:
		date = "every day"
	case len(days) == 1 && len(months) > 1 && slices.ContainsFunc(months, func(m int) bool { return m == 2 && days[0] > 28 || days[0] > longest[m] }):
		date = fmt.Sprintf("on day %d, where there is one,", days[0])
	case len(days) == 1:
		date = fmt.Sprintf("on day %d", days[0])
	default:
		date = "on days " + spans(days)
	}
	named := weekdayWords(weekdays)
	switch {
	case anyDay && anyWeekday && in == "":
		return "every day"
	case anyDay && in == "":
		return named
	case anyDay:
		return named + " in " + in
	case anyWeekday && in == "":
		return date + " of every month"
	case anyWeekday && len(months) == 1 && len(days) == 1 && months[0] == 2 && days[0] == 29:
		return "in leap years on 29 February"
	case anyWeekday && len(months) == 1 && len(days) == 1:
		return fmt.Sprintf("every year on %d %s", days[0], in)
	case anyWeekday:
		return date + " of " + in
	}
	return date + " and also " + named + inMonth(in)
}

func inMonth(in string) string {
	if in == "" {
		return " of every month"
	}
	return " of " + in
}

func weekdayWords(weekdays []int) string {
	switch {
	case len(weekdays) == 7:
		return "every day"
	case slices.Equal(weekdays, []int{1, 2, 3, 4, 5}):
		return "every weekday"
	case slices.Equal(weekdays, []int{0, 6}):
		return "every Saturday and Sunday"
	}
	var names []string
	for _, day := range weekdays {
		names = append(names, time.Weekday(day).String())
	}
	return "every " + and(names)
}

// values are the numbers of a field's set.
func values(set uint64) (all []int) {
	for set &^= starBit; set != 0; set &= set - 1 {
		all = append(all, bits.TrailingZeros64(set))
	}
	return all
}

// stride returns n if the values are 0, n, 2n … and divide the whole evenly.
func stride(values []int, whole int) int {
	if len(values) < 2 || values[0] != 0 || values[1] == 1 || whole%values[1] != 0 || len(values) != whole/values[1] {
		return 0
	}
	for i, v := range values {
		if v != i*values[1] {
			return 0
		}
	}
	return values[1]
}

// spans writes numbers with their ranges: 9 to 17 and 20.
func spans(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		switch {
		case j > i+1:
			parts = append(parts, fmt.Sprintf("%d to %d", numbers[i], numbers[j]))
		default:
			for _, n := range numbers[i : j+1] {
				parts = append(parts, strconv.Itoa(n))
			}
		}
		i = j + 1
	}
	return and(parts)
}

// durationWords writes a duration in its largest whole unit.
func durationWords(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d%unit.of == 0 {
			if n := d / unit.of; n > 1 {
				return fmt.Sprintf("%d %ss", n, unit.name)
			}
			return unit.name
		}
	}
	return d.String()
}

package calendar

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// starBit is set by robfig in a field that stands for every value.
const starBit = 1 << 63

// longest is how many days each month has at most, from January at 1.
var longest = [...]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// checkDays refuses a date that no year has, and warns of a date that will be
// read otherwise than it was probably meant. texts are the five fields.
func (s *Schedule) checkDays(texts []string) error {
	day, month, weekday := texts[2], texts[3], texts[4]
	switch anyDay, anyWeekday := s.spec.Dom&starBit != 0, s.spec.Dow&starBit != 0; {
	case anyDay:
		return nil
	case anyWeekday:
		return s.checkDates(day, month)
	default:
		s.warnings = append(s.warnings, fmt.Sprintf("fires on either: on day of month %s, and also on every weekday %s%s; a day need not match both", day, weekday, inMonths(month)))
		return nil
	}
}

// checkDates refuses days that none of the months has.
func (s *Schedule) checkDates(day, month string) error {
	first := bits.TrailingZeros64(s.spec.Dom)
	most, names := 0, []string(nil)
	for m := 1; m < len(longest); m++ {
		if s.spec.Month&(1<<m) != 0 {
			most = max(most, longest[m])
			names = append(names, time.Month(m).String())
		}
	}
	if first <= most {
		return nil
	}
	verb := "has"
	if len(names) > 1 {
		verb = "have"
	}
	return fmt.Errorf("cron day of month %s with month %s never fires: %s %s no day %d: write a day from 1 to %d, or other months", shown(day), shown(month), and(names), verb, first, most)
}

func inMonths(month string) string {
	if month == "*" {
		return ""
	}
	return ", in month " + month
}

// and joins names as a sentence does.
func and(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// namesDay tells whether the expression names times of a day.
func (s *Schedule) namesDay(day time.Time) bool {
	if s.spec.Month&(1<<uint(day.Month())) == 0 {
		return false
	}
	byDay, byWeekday := s.spec.Dom&(1<<uint(day.Day())) != 0, s.spec.Dow&(1<<uint(day.Weekday())) != 0
	if s.spec.Dom&starBit != 0 || s.spec.Dow&starBit != 0 {
		return byDay && byWeekday
	}
	return byDay || byWeekday
}

// ofDay returns how many times of a day the expression names.
func (s *Schedule) ofDay() int {
	return bits.OnesCount64(s.spec.Minute&^starBit) * bits.OnesCount64(s.spec.Hour&^starBit)
}

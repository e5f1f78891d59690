package calendar

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// field is one of the five of an expression: its name for people, the numbers
// that it means, and the names that may stand for them, from low upwards.
type field struct {
	name      string
	low, high int
	names     []string
	days      bool // says which days
	again     bool // the number after high may be written too, and means low
}

// fields are in the order in which they are written.
var fields = []field{
	{name: "minute", low: 0, high: 59},
	{name: "hour", low: 0, high: 23},
	{name: "day of month", low: 1, high: 31, days: true},
	{name: "month", low: 1, high: 12, names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{name: "weekday", low: 0, high: 6, names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}, days: true, again: true},
}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// parseFields checks the five fields of expr and hands them to robfig.
func (s *Schedule) parseFields(expr string) error {
	texts := strings.Fields(expr)
	if len(texts) != len(fields) {
		return fmt.Errorf("cron expression %s has %d fields, want 5: minute, hour, day of month, month, weekday%s", shown(expr), len(texts), fewer(texts))
	}
	for i, text := range texts {
		if err := fields[i].check(text); err != nil {
			return err
		}
	}
	parsed, err := parser.Parse(strings.Join(append(slices.Clone(texts[:4]), fields[4].plain(texts[4])), " "))
	if err != nil { // the grammar above lets nothing through that robfig refuses
		return fmt.Errorf("cron expression %s: %w", shown(expr), err)
	}
	s.spec = parsed.(*cron.SpecSchedule)
	s.spec.Location = time.UTC
	s.elapsed = texts[0][0] == '*' || texts[1][0] == '*'
	s.allDay = texts[1] == "*"
	s.warnUneven(texts)
	return s.checkDays(texts)
}

// plain is a checked text for robfig, who knows no number again.
func (f field) plain(text string) string {
	if text[0] == '*' {
		return text
	}
	all := f.values(text)
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ",")
}

// check refuses a field's text unless it is a list of *, numbers and ranges.
func (f field) check(text string) error {
	items := strings.Split(text, ",")
	if slices.Contains(items, "") {
		return fmt.Errorf("cron %s %s: empty item in the list: remove the extra comma", f.name, shown(text))
	}
	for _, item := range items {
		if item == "*" && len(items) > 1 {
			return fmt.Errorf("cron %s %s: * already means every value: write it alone", f.name, shown(text))
		}
		if err := f.checkItem(item); err != nil {
			return fmt.Errorf("cron %s %s: %w", f.name, shown(item), err)
		}
	}
	return nil
}

func (f field) checkItem(item string) error {
	span, step, hasStep := strings.Cut(item, "/")
	by, isStep := number(step)
	low, high, err := f.span(span)
	switch {
	case err != nil:
		return err
	case low > high:
		return fmt.Errorf("the range %s runs backwards: write %s", span, f.turned(span, low, high, by))
	case !hasStep:
		return nil
	}
	single := span != "*" && !strings.Contains(span, "-")
	if single {
		high = f.high
	}
	most := max(high-low, 1)
	switch {
	case !isStep || by < 1 || by > most:
		return fmt.Errorf("the step must be 1-%d: to fire at one value only, write that value", most)
	case single && low == f.low:
		return fmt.Errorf("a step needs * or a range before it: write */%s", step)
	case single:
		return fmt.Errorf("a step needs * or a range before it: write %s-%d/%s", span, f.high, step)
	}
	return nil
}

// turned writes a range that runs over the end of the field, as two ranges, or as its
// values where it has a step.
func (f field) turned(span string, low, high, by int) string {
	name := strconv.Itoa
	if number := strings.ContainsAny(span, "0123456789"); !number {
		name = func(n int) string { return f.names[(n-f.low)%len(f.names)] }
	}
	size := f.high - f.low + 1
	if by > 1 {
		var texts []string
		for n := low; n <= high+size; n += by {
			texts = append(texts, name(f.low+(n-f.low)%size))
		}
		return strings.Join(texts, ",")
	}
	from, last := f.low, f.high
	if f.again {
		from, last = f.low+1, f.high+1 // which is low
	}
	if low == last && f.again {
		from, low = f.low, last+1
	}
	var texts []string
	for _, part := range [][2]int{{low, last}, {from, high}} {
		switch {
		case part[0] == part[1]:
			texts = append(texts, name(part[0]))
		case part[0] < part[1]:
			texts = append(texts, name(part[0])+"-"+name(part[1]))
		}
	}
	return strings.Join(texts, ",")
}

// values returns what a checked text stands for, in order.
func (f field) values(text string) (all []int) {
	for _, item := range strings.Split(text, ",") {
		span, step, _ := strings.Cut(item, "/")
		low, high, _ := f.span(span) // check has let it through
		by, ok := number(step)
		if !ok {
			by = 1
		}
		for n := low; n <= high; n += by {
			all = append(all, f.low+(n-f.low)%(f.high-f.low+1))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// span returns the first and last value of *, of a range, which may run backwards, or of
// one value.
func (f field) span(text string) (low, high int, err error) {
	if text == "*" {
		return f.low, f.high, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if low, err = f.value(first); err != nil || !isRange {
		return low, low, err
	}
	if high, err = f.value(last); err != nil {
		return 0, 0, err
	}
	if _, digits := number(last); f.again && !digits && high == f.low && low > high {
		high = f.high + 1 // MON-SUN
	}
	return low, high, nil
}

// value returns the number that text writes in digits or by name.
func (f field) value(text string) (int, error) {
	n, ok := number(text)
	if i := slices.Index(f.names, strings.ToUpper(text)); i >= 0 {
		n, ok = f.low+i, true
	}
	if ok && n >= f.low && n <= f.most() {
		return n, nil
	}
	return 0, fmt.Errorf("want %s%s", f.allowed(), f.instead(text))
}

// most is the highest number that may be written.
func (f field) most() int {
	if f.again {
		return f.high + 1
	}
	return f.high
}

// allowed says what values the field takes.
func (f field) allowed() string {
	if f.names == nil {
		return fmt.Sprintf("%d-%d", f.low, f.most())
	}
	return fmt.Sprintf("%d-%d or %s-%s", f.low, f.most(), f.names[0], f.names[len(f.names)-1])
}

// foreign matches what other crons mean by the last day, the nearest working
// day and the nth weekday of a month.
var foreign = regexp.MustCompile(`^([0-9]*|[A-Z]{3})(L|W|LW)$|#`)

// instead says what to write for a value that other crons take, or nothing.
func (f field) instead(text string) string {
	upper := strings.ToUpper(text)
	switch {
	case f.days && !f.again && upper == "L":
		return ": L, W and # are not supported: for the last day write 28-31 and let the job look whether tomorrow is the 1st"
	case f.days && foreign.MatchString(upper):
		return ": L, W and # are not supported: list the days, or let the job look at the date"
	case strings.HasPrefix(upper, "H"):
		return ": H is Jenkins' own: choose a number, and spread many schedules with --spread"
	case strings.Contains(text, "~"):
		return ": ~ is not supported: choose a number, and spread many schedules with --spread"
	case text == "?":
		return ": for any value write *"
	case strings.HasPrefix(text, "+"):
		return ", without a sign"
	}
	for _, name := range f.names {
		if strings.HasPrefix(upper, name) {
			return ": write " + name
		}
	}
	return ""
}

// number reads one or two digits, which is all that any field takes.
func number(text string) (int, bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	if len(text) == 0 || len(text) > 2 {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

package calendar

import (
	"fmt"
	"strconv"
	"strings"
)

// fewer says which of six or seven fields are too many, and what to write, if that can
// be known: other crons have seconds before the five, or a year after them.
func fewer(texts []string) string {
	const cannotSay = " (no seconds, no year)"
	if len(texts) != 6 && len(texts) != 7 {
		return cannotSay
	}
	withYear := len(texts) == 7 || texts[2] == "?" || texts[4] == "?"
	rest, out := texts, []string(nil)
	if len(texts) == 7 || !withYear {
		if rest[0] != "0" {
			return cannotSay
		}
		rest, out = rest[1:], append(out, "the seconds")
	}
	if withYear {
		if year := rest[5]; year != "*" && year != "?" {
			return cannotSay
		}
		rest, out = rest[:5], append(out, "the year")
	}
	hint := ": leave " + and(out) + " out"
	plain := make([]string, len(rest))
	for i, text := range rest {
		if plain[i] = text; text == "?" {
			plain[i] = "*"
		}
		if fields[i].check(plain[i]) != nil {
			return cannotSay
		}
	}
	if strings.Contains(strings.Join(rest, " "), "?") {
		hint += ", and for any value write *"
		if strings.ContainsAny(plain[4], "0123456789") {
			return hint + "; weekdays are 0-7 or SUN-SAT here, and Sunday is 0 or 7"
		}
	}
	return hint + ": write " + shown(strings.Join(plain, " "))
}

// warnUneven warns of steps that are no steps: the values of a field are counted anew
// with each hour, day, month, year or week.
func (s *Schedule) warnUneven(texts []string) {
	for i, says := range [...]struct{ fires, unit, within, every string }{
		{"at minutes", "minute", "hour", "m"}, {"at hours", "hour", "day", "h"}, {"on days", "day", "month", ""}, {"in months", "month", "year", ""}, {"on weekdays", "day", "week", ""},
	} {
		f := fields[i]
		by, ok := number(strings.TrimPrefix(texts[i], "*/"))
		if !ok || by < 2 || texts[i][0] != '*' || !f.days && (f.high-f.low+1)%by == 0 {
			continue
		}
		all := f.values(texts[i])
		named := make([]string, len(all))
		for n, value := range all {
			named[n] = strconv.Itoa(value)
		}
		warning := fmt.Sprintf("%s %s fires %s %s of each %s, not every %d %ss: they are counted anew with each %s",
			f.name, texts[i], says.fires, and(named), says.within, by, says.unit, says.within)
		if says.every != "" {
			warning += fmt.Sprintf("; @every %d%s keeps the distance", by, says.every)
		}
		s.warnings = append(s.warnings, warning)
	}
}

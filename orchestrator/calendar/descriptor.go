package calendar

import (
	"fmt"
	"strings"
	"time"
)

// MinInterval is the shortest duration that @every takes.
const MinInterval = 10 * time.Second

const descriptorList = "@hourly @daily @midnight @weekly @monthly @yearly @annually or @every <duration>"

// descriptors are the fixed nicknames and the five fields that they stand for.
var descriptors = map[string]string{
	"@hourly":   "0 * * * *",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@weekly":   "0 0 * * 0",
	"@monthly":  "0 0 1 * *",
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
}

func (s *Schedule) parseDescriptor() error {
	word, rest, _ := strings.Cut(strings.ReplaceAll(s.expr, "\t", " "), " ")
	if word == "@every" {
		return s.parseEvery(strings.TrimSpace(rest))
	}
	if fields, ok := descriptors[s.expr]; ok {
		return s.parseFields(fields)
	}
	lower := strings.ToLower(word)
	switch _, known := descriptors[lower]; {
	case lower == "@once":
		return fmt.Errorf("cron expression %s: a schedule repeats: for one time ask for one job that runs then (headgate job enqueue --run-at)", shown(s.expr))
	case lower == "@reboot":
		return fmt.Errorf("cron expression %s: nothing reboots here: write one of %s", shown(s.expr), descriptorList)
	case known && word == lower:
		return fmt.Errorf("cron expression %s: nothing may follow %s", shown(s.expr), word)
	case known || lower == "@every":
		return fmt.Errorf("cron expression %s: write it in lower case, %s", shown(s.expr), lower)
	default:
		return fmt.Errorf("cron expression %s: unknown word: write one of %s, or five fields", shown(s.expr), descriptorList)
	}
}

func (s *Schedule) parseEvery(text string) error {
	interval, err := time.ParseDuration(text)
	switch {
	case err != nil || text[0] == '+':
		return fmt.Errorf("cron @every %s: not a duration: write hours, minutes and seconds, for example @every 1h30m (a day is 24h)", shown(text))
	case interval < MinInterval:
		return fmt.Errorf("cron @every %s: the interval must be at least %s", shown(text), MinInterval)
	case interval%time.Second != 0:
		return fmt.Errorf("cron @every %s: the interval must be in whole seconds: write @every %s", shown(text), interval.Truncate(time.Second))
	}
	s.every = interval
	return nil
}

// nextMultiple returns the first multiple of interval, counted from anchor (zero:
// the Unix epoch), after the given time.
func nextMultiple(after, anchor time.Time, interval time.Duration) time.Time {
	base := int64(0)
	if !anchor.IsZero() {
		base = anchor.Unix()
	}
	step, seconds := int64(interval/time.Second), after.Unix()
	past := (seconds - base) % step
	if past < 0 {
		past += step
	}
	return time.Unix(seconds-past+step, 0)
}

package calendar

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/headgate/headgate/jobs/quote"
)

// maxExprBytes bounds an expression. All 60 minutes written out take 169.
const maxExprBytes = 1024

// lastYear is the last year that a schedule fires in: the last that RFC 3339
// can write.
const lastYear = 9999

// Schedule is a checked cron expression in a time zone. It does not change
// after [New] and is safe for concurrent use.
type Schedule struct {
	expr     string
	zone     *time.Location
	warnings []string

	every   time.Duration      // of "@every"; 0 means that spec counts
	anchor  time.Time          // of "@every"; zero means the Unix epoch
	spec    *cron.SpecSchedule // evaluated on a naive wall clock: Location is UTC
	elapsed bool               // minute or hour begins with *: follows elapsed time
	allDay  bool               // no hour is left out
	gap     Gap                // settled
	repeat  Repeat             // settled

	start, end time.Time // zero means no bound
	exclude    []Days
	windows    []Window
}

// Parse is [New] for an expression and a zone alone.
func Parse(expr, zone string) (*Schedule, error) { return New(Spec{Cron: expr, Zone: zone}) }

// Expr returns the expression as it was given, without the spaces around it.
func (s *Schedule) Expr() string { return s.expr }

// Zone returns the name of the schedule's time zone.
func (s *Schedule) Zone() string { return s.zone.String() }

// Location returns the schedule's time zone.
func (s *Schedule) Location() *time.Location { return s.zone }

// Warnings returns a sentence for each thing that is allowed and probably not
// meant, for people to read before they save the schedule. Usually there is
// none.
func (s *Schedule) Warnings() []string { return append([]string(nil), s.warnings...) }

// mostSteps bounds how often one Next looks again after an exclusion or outside a
// window: each look is past a range or at the next window.
const mostSteps = 5000

// Next returns the first time strictly after the given one at which the
// schedule fires, in the schedule's zone and on a whole second. The zero Time
// means never again: past the end, past the year 9999, or when exclusions and
// windows leave nothing for years. It takes a few microseconds.
func (s *Schedule) Next(after time.Time) time.Time {
	if !s.start.IsZero() && after.Before(s.start) {
		after = s.start.Add(-time.Nanosecond)
	}
	for range mostSteps {
		next := s.nextRaw(after)
		if next.IsZero() || !s.end.IsZero() && next.After(s.end) {
			return time.Time{}
		}
		skip, free := s.barred(next)
		if skip == "" {
			return next
		}
		after = free.Add(-time.Nanosecond)
		if after.Before(next) {
			after = next
		}
	}
	return time.Time{}
}

// nextRaw is raw within the years that there are.
func (s *Schedule) nextRaw(after time.Time) time.Time {
	if after.Year() > lastYear {
		return time.Time{}
	}
	if first := time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC); after.Before(first) {
		after = first // the year 1 holds the zero Time
	}
	next := s.raw(after).In(s.zone)
	if next.Year() > lastYear || next.IsZero() {
		return time.Time{}
	}
	return next
}

// nextWall returns the first match after a wall time, as a wall time. robfig
// gives up after five years; the longest wait that the grammar lets through is
// eight, from 29 February 2096 to 2104, so asking again from where it gave up
// ends at the second try.
func (s *Schedule) nextWall(wall time.Time) time.Time {
	for {
		if next := s.spec.Next(wall); !next.IsZero() {
			return next
		}
		wall = time.Date(wall.Year()+5, 12, 31, 23, 59, 59, 0, time.UTC)
	}
}

// names tells whether the expression names a wall time.
func (s *Schedule) names(wall time.Time) bool {
	return s.every == 0 && s.nextWall(wall.Add(-time.Nanosecond)).Equal(wall)
}

// checkText refuses what no later step should have to think about.
func checkText(expr string) error {
	trimmed := strings.Trim(expr, " \t")
	upper := strings.ToUpper(trimmed[:min(len(trimmed), 16)])
	switch {
	case trimmed == "":
		return fmt.Errorf("cron expression is empty: write five fields, for example \"0 3 * * *\" for 03:00 every day, or @daily")
	case len(expr) > maxExprBytes:
		return fmt.Errorf("cron expression is %d bytes long, at most %d are allowed: shorten its lists with ranges and steps", len(expr), maxExprBytes)
	case strings.HasPrefix(upper, "TZ=") || strings.HasPrefix(upper, "CRON_TZ="):
		return fmt.Errorf("cron expression %s: the time zone belongs in the zone field, not in the expression", shown(trimmed))
	}
	for _, r := range trimmed {
		if r != '\t' && (r < ' ' || r > '~') {
			return fmt.Errorf("cron expression %s: the character %+q is not allowed: write plain ASCII digits, letters and * , - / with spaces between the fields", shown(trimmed), r)
		}
	}
	return nil
}

// shown returns text in quotation marks for an error, escaped to ASCII and cut after 40
// bytes.
func shown(text string) string {
	const most = 40
	switch {
	case quote.MayHide(text):
		return quote.Hidden
	case len(text) > most:
		return fmt.Sprintf("%+q...", text[:most])
	}
	return fmt.Sprintf("%+q", text)
}

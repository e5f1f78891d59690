package calendar_test

import (
	"testing"
	"time"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// FuzzParse: no text panics or hangs, an error says something, and what is
// accepted fires in the future and is accepted again as it stands.
func FuzzParse(f *testing.F) {
	for _, expr := range []string{
		"0 3 * * *", "*/15 9-17 * JAN,feb MON-FRI", "@daily", "@every 1h30m", "TZ=UTC", "CRON_TZ= ", "* * 31 2 *",
		"@every -5m", "*/90 * * * *", "+5 * * * *", "1,2,,4 * * * *", "５ * * * *", "0 0 L * *", "0 0 * * 5#2", "0 0 29 2 *",
	} {
		f.Add(expr, "America/New_York", int64(1_795_000_000))
	}
	f.Add("0 12 30 12 *", "Pacific/Apia", int64(1_310_000_000))
	f.Add("@daily", "Local", int64(0))
	f.Fuzz(func(t *testing.T, expr, zone string, unix int64) {
		began := time.Now()
		s, err := calendar.Parse(expr, zone)
		if err != nil {
			if len(err.Error()) < 20 || len(err.Error()) > 500 {
				t.Fatalf("a strange sentence for %q: %v", expr, err)
			}
			return
		}
		after := time.Unix(unix, 0)
		if len(s.Words()) < 10 || len(s.Words()) > 3000 {
			t.Fatalf("strange words for %q: %s", expr, s.Words())
		}
		if list := s.Last(after.AddDate(0, -1, 0), after, 3); len(list) > s.Count(after.AddDate(0, -1, 0), after) {
			t.Fatalf("%q in %s: Last and Count disagree", expr, zone)
		}
		s.Skips(after.AddDate(0, -2, 0), after)
		if next := s.Next(after); !next.IsZero() && !next.After(after) {
			t.Fatalf("%q in %s: %s is not after %s", expr, zone, next, after)
		}
		if _, err := calendar.Parse(s.Expr(), s.Zone()); err != nil {
			t.Fatalf("%q was accepted, but not its own Expr: %v", expr, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("%q in %s took %s", expr, zone, took)
		}
	})
}

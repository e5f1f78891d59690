package calendar_test

import (
	"testing"
	"time"

	"github.com/headgate/headgate/orchestrator/calendar"
)

func BenchmarkNext(b *testing.B) {
	for _, expr := range []string{"30 2 * * *", "*/15 * * * *", "0 0 29 2 *", "@every 1h"} {
		b.Run(expr, func(b *testing.B) {
			s := parse(b, expr, "America/New_York")
			at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
			for b.Loop() {
				s.Next(at)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := calendar.Parse("30 2 * * MON-FRI", "America/New_York"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	s, err := calendar.Parse("* * * * *", "America/New_York")
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 12, 0, 30, 0, time.UTC)
	for b.Loop() {
		if s.Count(now.AddDate(0, 0, -30), now) != 43_200 || len(s.Last(now.AddDate(-30, 0, 0), now, 10)) != 10 {
			b.Fatal("a count is wrong")
		}
	}
}

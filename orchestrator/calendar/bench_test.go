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

package calendar_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// Example_preview shows the next fires of a schedule before it is saved, here
// over the night in which the clocks of New York go forward.
func Example_preview() {
	schedule, err := calendar.Parse("30 2 * * *", "America/New_York")
	if err != nil {
		fmt.Println(err)
		return
	}
	fire := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	for range 3 {
		fire = schedule.Next(fire)
		fmt.Println(fire)
	}
	// Output:
	// 2026-03-08 03:00:00 -0400 EDT
	// 2026-03-09 02:30:00 -0400 EDT
	// 2026-03-10 02:30:00 -0400 EDT
}

package calendar_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// Days of an exclusion calendar are no occurrences, and neither are times outside a
// schedule's windows.
func Example_excludeDays() {
	holidays, err := calendar.NewDays("holidays", []calendar.DayRange{{From: "2026-12-24", To: "2026-12-26", Note: "Christmas"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	office, err := calendar.ParseWindow("mon-fri 08:00-18:00")
	if err != nil {
		fmt.Println(err)
		return
	}
	schedule, err := calendar.New(calendar.Spec{
		Cron: "0 7,12 * * *", Zone: "Europe/Berlin", Exclude: []calendar.Days{holidays}, Windows: []calendar.Window{office},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, occurrence := range schedule.Upcoming(time.Date(2026, 12, 22, 12, 0, 0, 0, time.UTC), 3) {
		fmt.Println(occurrence.At)
	}
	// Output:
	// 2026-12-23 12:00:00 +0100 CET
	// 2026-12-28 12:00:00 +0100 CET
	// 2026-12-29 12:00:00 +0100 CET
}

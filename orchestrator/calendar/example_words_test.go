package calendar_test

import (
	"fmt"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// A schedule says in words what its cron text means, and a wrong one what is allowed.
func Example_words() {
	schedule, err := calendar.Parse("0 7 1 * 1", "Europe/Paris")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(schedule.Words())
	for _, warning := range schedule.Warnings() {
		fmt.Println(warning)
	}
	_, err = calendar.Parse("0 7 * * 8", "Europe/Paris")
	fmt.Println(err)
	// Output:
	// on day 1 and also every Monday of every month at 07:00 (Europe/Paris)
	// fires on either: on day of month 1, and also on every weekday 1; a day need not match both
	// cron weekday "8": want 0-7 or SUN-SAT
}

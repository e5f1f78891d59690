package schedule_test

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// SendInvoice is a kind of an application: its arguments and its name.
type SendInvoice struct {
	Invoice int `json:"invoice"`
}

func (SendInvoice) Kind() string { return "send-invoice" }

// A schedule enqueues a kind for a tenant, in a time zone, but not on the days of an
// exclusion calendar. Creating a schedule says when it will fire; a Scheduler, any number
// of them, fires it.
func Example_scheduleAKind() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	ctx := context.Background()

	err := env.Schedules.Calendars.Set(ctx, "inventory", []calendar.DayRange{{From: "2031-01-01", To: "2031-01-06", Note: "nobody is there"}})
	fmt.Println(err)
	start := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	mondays, err := env.Schedules.Create(ctx, schedule.Params{
		Tenant: "acme", Name: "mondays", Args: SendInvoice{Invoice: 7}, Actor: "ines",
		Spec: schedule.Spec{Cron: "0 7 * * 1", Zone: "Europe/Paris", Policy: schedule.Policy{Start: &start, Calendars: []string{"inventory"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(mondays.NextRunAt.UTC())

	_, err = env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: "never", Args: SendInvoice{}, Spec: schedule.Spec{Cron: "0 25 * * *"}})
	fmt.Println(err)
	// Output:
	// <nil>
	// 2031-01-13 06:00:00 +0000 UTC
	// schedule never: cron hour "25": want 0-23
}

package schedule_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// A schedule can be triggered by hand, and paused. A trigger that is repeated under the
// same request makes no second job.
func Example_triggerASchedule() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	ctx, nightly := context.Background(), schedule.Key{Tenant: "acme", Name: "nightly"}
	_, err := env.Schedules.Create(ctx, schedule.Params{
		Tenant: nightly.Tenant, Name: nightly.Name, Args: SendInvoice{Invoice: 7}, Spec: schedule.Spec{Cron: "30 3 * * *"},
	})
	fmt.Println(err)

	request := &schedule.TriggerOpts{Request: "6f0d3f0e-6c07-4a38-9d3c-2f1f7f2a9f11", Actor: "ines"}
	first, err := env.Schedules.Trigger(ctx, nightly, request)
	fmt.Println(first.Again, err)
	second, err := env.Schedules.Trigger(ctx, nightly, request)
	fmt.Println(second.Again, second.UID == first.UID, err)

	err = env.Schedules.Pause(ctx, nightly, &schedule.PauseOpts{Actor: "ines"})
	paused, _ := env.Schedules.Get(ctx, nightly)
	fmt.Println(paused.Paused, paused.NextRunAt, err)
	// Output:
	// <nil>
	// false <nil>
	// true true <nil>
	// true <nil> <nil>
}

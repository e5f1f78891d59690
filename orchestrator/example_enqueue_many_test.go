package orchestrator_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// A job for each of many tenants is one request: all are accepted, or none.
func Example_enqueueMany() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("freemium-1", jobstest.DatabaseOpts{})
	var list []jobs.EnqueueParams
	for _, slug := range []string{"fern", "moss", "reed"} {
		env.Tenant(slug, "freemium-1")
		list = append(list, jobs.EnqueueParams{Tenant: slug, Args: SendInvoice{Invoice: 7}})
	}
	ctx := context.Background()

	results, err := env.Client.EnqueueMany(ctx, list)
	fmt.Println(len(results), err)

	list[1].Tenant = "mos"
	results, err = env.Client.EnqueueMany(ctx, list)
	fmt.Println(len(results), err)
	// Output:
	// 3 <nil>
	// 0 enqueueing 3 jobs: unknown tenant: no tenant has the slug, UUID or org_id "mos"
}

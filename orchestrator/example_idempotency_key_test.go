package orchestrator_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// A request whose answer was lost can be repeated under its idempotency key: it
// is answered with the first job. What is not the same request is refused.
func Example_repeatARequest() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	ctx, opts := context.Background(), &jobs.EnqueueOpts{IdempotencyKey: "invoice-7"}

	first, err := env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 7}, opts)
	fmt.Println(first.Status, err)
	again, err := env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 7}, opts)
	fmt.Println(again.Status, again.UID == first.UID, err)
	_, err = env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 8}, opts)
	fmt.Println(err != nil && err.Error() == "idempotency key is taken: job "+first.UID+
		` was enqueued under key "invoice-7" and differs in args.invoice; send what was sent then, or use another key`)
	// Output:
	// new <nil>
	// same true <nil>
	// true
}

package orchestrator_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// A job that has not begun is cancelled at once, and the history says by whom. A job that
// runs is cancelling until its tenant's ledger has said what became of it.
func Example_cancelAJob() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	ctx := context.Background()

	accepted, err := env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 7}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	cancelled, err := env.Client.Cancel(ctx, accepted.UID, &jobs.CancelOpts{Actor: "ines", Reason: "paid already"})
	fmt.Println(cancelled.State, err)

	job, err := env.Client.Job(ctx, accepted.UID)
	fmt.Println(job.Attempts[0].State, "-", job.Attempts[0].Message, err)
	// Output:
	// cancelled <nil>
	// cancelled - cancelled by ines: paid already <nil>
}

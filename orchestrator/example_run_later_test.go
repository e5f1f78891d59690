package orchestrator_test

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// The options of a job say when it may run at the earliest, how often it is tried and
// what it is called.
func Example_runLater() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	ctx, tomorrow := context.Background(), time.Now().Add(24*time.Hour)

	accepted, err := env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 7}, &jobs.EnqueueOpts{
		RunAt: tomorrow, MaxAttempts: 3, Tags: []string{"monthly"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := env.Client.Job(ctx, accepted.UID)
	fmt.Println(job.State, job.MaxAttempts, job.Tags, err)

	_, err = env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 8}, &jobs.EnqueueOpts{RunAt: tomorrow.AddDate(-1, 0, 0)})
	fmt.Println("a year ago is refused:", err != nil)
	// Output:
	// scheduled 3 [monthly] <nil>
	// a year ago is refused: true
}

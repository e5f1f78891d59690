package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A job that has used up its attempts is discarded. Retry gives it one more, under the
// same UID; Rerun makes a new job of the same kind and arguments.
func Example_retryAJob() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	var repaired atomic.Bool
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[SendInvoice]) error {
			if !repaired.Load() {
				return errors.New("the printer is on fire")
			}
			return nil
		})
	})
	ctx := context.Background()

	accepted, err := env.Client.Enqueue(ctx, "acme", SendInvoice{Invoice: 7}, &jobs.EnqueueOpts{MaxAttempts: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	outcome := env.Wait(accepted.UID)
	fmt.Println(outcome.State, "-", outcome.Class, "-", outcome.Message)

	repaired.Store(true)
	retried, err := env.Client.Retry(ctx, accepted.UID)
	fmt.Println(retried.UID == accepted.UID, retried.Was, retried.MaxAttempts, err)
	outcome = env.WaitFor(accepted.UID, func(o jobs.Outcome) bool { return o.State == jobs.Succeeded })
	fmt.Println(outcome.State, outcome.Attempt)

	rerun, err := env.Client.Rerun(ctx, accepted.UID, nil)
	fmt.Println(rerun.UID == accepted.UID, err)
	// Output:
	// discarded - job_error - the printer is on fire
	// true discarded 2 <nil>
	// succeeded 2
	// false <nil>
}

package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// AwaitPayment is the arguments of a kind that may come too early.
type AwaitPayment struct {
	Invoice int `json:"invoice"`
}

func (AwaitPayment) Kind() string { return "await-payment" }

// A handler that comes too early returns jobs.Snooze: the job runs again later and has
// used no attempt.
func Example_snooze() {
	env, end := jobstest.Example()
	defer end()
	db := env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE payments (invoice int);
		GRANT SELECT ON payments TO headgate_job`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[AwaitPayment]) error {
			var paid bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM payments WHERE invoice = $1)`, job.Args.Invoice).Scan(&paid); err != nil {
				return err
			}
			if !paid {
				return jobs.Snooze(50 * time.Millisecond)
			}
			return nil
		})
	})
	ctx := context.Background()

	accepted, err := env.Client.Enqueue(ctx, "acme", AwaitPayment{Invoice: 7}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	outcome := env.WaitFor(accepted.UID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	fmt.Println(outcome.State, outcome.Attempt)
	_, err = db.Pool.Exec(ctx, `INSERT INTO payments VALUES (7)`)
	outcome = env.Wait(accepted.UID)
	fmt.Println(outcome.State, outcome.Attempt, err)
	// Output:
	// snoozed 1
	// succeeded 1 <nil>
}

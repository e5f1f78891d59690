package worker_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// CountTasks is the arguments of a kind that only reads.
type CountTasks struct{}

func (CountTasks) Kind() string { return "count-tasks" }

// A kind that only reads needs no ledger: its transaction cannot write, and a new attempt
// reads again.
func Example_readOnly() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE tasks AS SELECT n AS id FROM generate_series(1, 3) n;
		GRANT SELECT ON tasks TO headgate_job`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[CountTasks]) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM tasks`).Scan(&job.Result.Rows)
		})
	})

	outcome := env.Run("acme", CountTasks{})
	fmt.Println(outcome.State, outcome.Result.Rows)
	// Output:
	// succeeded 3
}

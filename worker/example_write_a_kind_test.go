package worker_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// CloseTask is the arguments of a kind; Kind names it in the queue.
type CloseTask struct {
	Task int `json:"task"`
}

func (CloseTask) Kind() string { return "close-task" }

// closeTask is the kind's work. It knows neither which database it runs in nor
// which other tenants live there.
func closeTask(ctx context.Context, tx pgx.Tx, job *jobs.Job[CloseTask]) error {
	done, err := tx.Exec(ctx, `UPDATE tasks SET state = 'closed' WHERE id = $1`, job.Args.Task)
	if err != nil {
		return err
	}
	if done.RowsAffected() == 0 {
		return jobs.Cancel(fmt.Errorf("there is no task %d", job.Args.Task))
	}
	job.Result.Rows = done.RowsAffected()
	return nil
}

// A kind is a struct of arguments and a function; worker.InTx joins them. The
// function's rows and the mark that the job is done commit together.
func Example_writeAKind() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE tasks AS SELECT 1 AS id, 'open' AS state;
		GRANT SELECT, UPDATE ON tasks TO headgate_job`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, closeTask) })

	outcome := env.Run("acme", CloseTask{Task: 1})
	fmt.Println(outcome.State, outcome.Result.Rows)
	outcome = env.Run("acme", CloseTask{Task: 2})
	fmt.Println(outcome.State, "-", outcome.Message)
	// Output:
	// succeeded 1
	// cancelled - cancelled by its handler: there is no task 2
}

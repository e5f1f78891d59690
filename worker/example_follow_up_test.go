package worker_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// BookOrder and ConfirmOrder are the arguments of two kinds; the second follows the first.
type (
	BookOrder struct {
		Order int `json:"order"`
	}
	ConfirmOrder struct {
		Order int `json:"order"`
	}
)

func (BookOrder) Kind() string    { return "book-order" }
func (ConfirmOrder) Kind() string { return "confirm-order" }

// A handler asks for another job with Follow. That job enters the queue if this one
// succeeds: once, whoever dies when.
func Example_followUp() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE orders (id int);
		GRANT INSERT ON orders TO headgate_job`})
	env.Tenant("acme", "acme-db")
	confirmed := make(chan int)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[BookOrder]) error {
			if _, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1)`, job.Args.Order); err != nil {
				return err
			}
			return job.Follow(ConfirmOrder{Order: job.Args.Order}, nil)
		})
		worker.NoConn(w, func(_ context.Context, job *jobs.Job[ConfirmOrder]) error {
			confirmed <- job.Args.Order
			return nil
		})
	})

	fmt.Println(env.Run("acme", BookOrder{Order: 7}).State)
	fmt.Println("confirmed:", <-confirmed)
	// Output:
	// succeeded
	// confirmed: 7
}

package worker_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// MovePages is the arguments of a kind that works in parts.
type MovePages struct{}

func (MovePages) Kind() string { return "move-pages" }

// KindOpts declares that the work has parts, each in a transaction of its own.
func (MovePages) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Chunked} }

// Long work goes on where it stopped: a part that is committed is not done again by the
// next attempt.
func Example_steps() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE pages (part text);
		GRANT INSERT ON pages TO headgate_job`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) {
		worker.OnConn(w, func(ctx context.Context, _ *pgx.Conn, job *jobs.Job[MovePages]) error {
			for _, part := range []string{"a to m", "n to z"} {
				if err := job.Step(ctx, part, func(ctx context.Context, tx pgx.Tx) error {
					fmt.Println("attempt", job.Attempt, "moves", part)
					if part == "n to z" && job.Attempt == 1 {
						return errors.New("the disk was full")
					}
					_, err := tx.Exec(ctx, `INSERT INTO pages (part) VALUES ($1)`, part)
					return err
				}); err != nil {
					return err
				}
			}
			return nil
		})
	})

	outcome := env.Run("acme", MovePages{})
	fmt.Println(outcome.State)
	// Output:
	// attempt 1 moves a to m
	// attempt 1 moves n to z
	// attempt 2 moves n to z
	// succeeded
}

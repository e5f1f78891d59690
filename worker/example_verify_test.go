package worker_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// AddIndex is the arguments of a kind whose effect can be looked up.
type AddIndex struct{}

func (AddIndex) Kind() string { return "add-index" }

// KindOpts declares that a verifier says whether an earlier attempt has done the work.
func (AddIndex) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Idempotence: jobs.Verifiable, Login: jobs.LoginOwner}
}

// A verifiable kind brings a function that looks whether the work is done. A new attempt
// asks it if an earlier one began and did not tell of its end.
func Example_verify() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE SCHEMA work; CREATE TABLE work.tasks (id int)`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) {
		worker.OnConnVerified(w,
			func(ctx context.Context, conn *pgx.Conn, _ *jobs.Job[AddIndex]) error {
				_, err := conn.Exec(ctx, `CREATE INDEX CONCURRENTLY tasks_by_id ON work.tasks (id)`)
				return err
			},
			func(ctx context.Context, conn *pgx.Conn, _ *jobs.Job[AddIndex]) (done bool, err error) {
				err = conn.QueryRow(ctx, `SELECT coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('work.tasks_by_id')), false)`).Scan(&done)
				return done, err
			})
	})

	fmt.Println(env.Run("acme", AddIndex{}).State)
	// Output:
	// succeeded
}

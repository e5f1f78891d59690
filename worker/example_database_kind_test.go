package worker_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// CountTables is the arguments of a kind of scope database.
type CountTables struct{}

func (CountTables) Kind() string { return "count-tables" }

// KindOpts declares that one job is about a whole database, whatever tenants live there.
// Such a kind needs the login that owns the database.
func (CountTables) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner}
}

// A kind of scope database is enqueued for a database, and its handler has no tenant.
func Example_aWholeDatabase() {
	env, end := jobstest.Example()
	defer end()
	env.Database("freemium-1", jobstest.DatabaseOpts{Schema: `CREATE TABLE tasks (id int); CREATE TABLE notes (id int)`})
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[CountTables]) error {
			job.Result.Output = job.Database
			return tx.QueryRow(ctx, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&job.Result.Rows)
		})
	})

	accepted, err := env.Client.EnqueueDatabase(context.Background(), "freemium-1", CountTables{}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	outcome := env.Wait(accepted.UID)
	fmt.Println(outcome.State, outcome.Result.Output, outcome.Result.Rows)
	// Output:
	// succeeded freemium-1 2
}

package worker_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// RebuildIndex is the arguments of a kind that works outside a transaction.
type RebuildIndex struct{}

func (RebuildIndex) Kind() string { return "rebuild-index" }

// KindOpts declares what a new attempt may do that finds an earlier one begun and not
// ended, and that the kind needs the login that owns the table.
func (RebuildIndex) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Idempotence: jobs.Idempotent, Login: jobs.LoginOwner}
}

// Some statements refuse a transaction. worker.OnConn gives their kind a connection, and
// the kind declares what may happen after a crash half way.
func Example_outsideATransaction() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE tasks (id int);
		CREATE INDEX by_id ON tasks (id)`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) {
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, _ *jobs.Job[RebuildIndex]) error {
			_, err := conn.Exec(ctx, `REINDEX INDEX CONCURRENTLY by_id`)
			return err
		})
	})

	fmt.Println(env.Run("acme", RebuildIndex{}).State)
	// Output:
	// succeeded
}

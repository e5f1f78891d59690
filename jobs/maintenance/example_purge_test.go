package maintenance_test

import (
	"fmt"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/worker"
)

// A purge deletes one tenant's old rows from one table, in batches.
func Example_purge() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE events AS SELECT n AS id, now() - n * interval '1 day' - interval '1 hour' AS at FROM generate_series(1, 100) n;
		GRANT SELECT, DELETE ON events TO headgate_job`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, maintenance.RunPurge) })

	outcome := env.Run("acme", maintenance.Purge{Table: "events", Column: "at", OlderThan: "90d"})
	fmt.Println(outcome.State, outcome.Result.Rows)
	fmt.Println(maintenance.Purge{Table: "events", Column: "at", OlderThan: "10m"}.Check())
	// Output:
	// succeeded 11
	// older_than "10m": write a whole number with its unit, hours or days: "36h" or "90d"
}

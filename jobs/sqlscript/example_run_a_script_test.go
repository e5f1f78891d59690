package sqlscript_test

import (
	"fmt"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// Two statements and their parameters, for one tenant, in one transaction.
func Example_runAScript() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE invoices AS SELECT n AS id, date '2027-01-01' + n AS due, 'open' AS state FROM generate_series(1, 60) n;
		CREATE TABLE reminders (invoice int, sent_on date);
		GRANT ALL ON invoices, reminders TO headgate_job`})
	env.Tenant("acme", "acme-db")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sqlscript.Run) })

	today := sqlscript.Param{Type: "date", Value: "2027-02-01"}
	outcome := env.Run("acme", sqlscript.Args{Statements: []sqlscript.Statement{
		{SQL: "INSERT INTO reminders SELECT id, $1 FROM invoices WHERE due < $1 AND state = 'open'", Params: []sqlscript.Param{today}},
		{SQL: "UPDATE invoices SET state = $2 WHERE due < $1", Params: []sqlscript.Param{today, {Value: "reminded"}}},
	}})
	fmt.Println(outcome.State, outcome.Result.Rows)
	fmt.Println(outcome.Result.Output)

	fmt.Println(sqlscript.Args{SQL: "COMMIT"}.Check())
	// Output:
	// succeeded 60
	// 1: INSERT 0 30
	// 2: UPDATE 30
	// statement 1: transaction control is not allowed in a SQL job: remove COMMIT; the job commits when all its statements have succeeded
}

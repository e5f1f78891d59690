package maintenance

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Analyze renews the planner's statistics of a database.
type Analyze struct {
	// Tables are the tables to do, each name or schema.name. None means every
	// table and materialised view of the database that the login owns, system
	// tables excepted. A partitioned table is meant with its partitions.
	Tables []string `json:"tables,omitempty"`
}

// Kind returns "headgate.analyze".
func (Analyze) Kind() string { return "headgate.analyze" }

// KindOpts makes it a job about a database, done by its owner in queue bulk, with 30 minutes
// and three attempts.
func (Analyze) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: jobs.BulkQueue, Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner, Idempotence: jobs.Idempotent, Timeout: 30 * time.Minute, MaxAttempts: 3}
}

// Check says which of the tables has a name that none can have.
func (a Analyze) Check() error { return checkTables(a.Tables) }

// RunAnalyze is the handler of [Analyze], a [jobs.ConnHandler].
//
// A table that is skipped, for lack of rights or for another reason, is an error
// that names it, after the others were done; a table of Tables that does not
// exist is one at once. Result.Rows is the number of tables done, and
// Result.Output a summary. The session is left with client_min_messages at
// warning; when ctx ends its connection is closed.
func RunAnalyze(ctx context.Context, conn *pgx.Conn, job *jobs.Job[Analyze]) error {
	work := &upkeep{command: "ANALYZE", result: job.Result}
	return work.run(ctx, conn, job.Args.Tables)
}

// Vacuum removes the dead rows of a database's tables, and makes their space
// free for new ones.
type Vacuum struct {
	// Tables are as in [Analyze].
	Tables []string `json:"tables,omitempty"`

	// Analyze renews the statistics of each table as well.
	Analyze bool `json:"analyze,omitempty"`
}

// Kind returns "headgate.vacuum".
func (Vacuum) Kind() string { return "headgate.vacuum" }

// KindOpts makes it a job about a database, done by its owner in queue bulk, with four hours
// and three attempts.
func (Vacuum) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: jobs.BulkQueue, Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner, Idempotence: jobs.Idempotent, Timeout: 4 * time.Hour, MaxAttempts: 3}
}

// Check says which of the tables has a name that none can have.
func (v Vacuum) Check() error { return checkTables(v.Tables) }

// RunVacuum is the handler of [Vacuum], a [jobs.ConnHandler]. It behaves as
// [RunAnalyze] does, and cannot run inside a transaction.
func RunVacuum(ctx context.Context, conn *pgx.Conn, job *jobs.Job[Vacuum]) error {
	work := &upkeep{command: "VACUUM", result: job.Result}
	if job.Args.Analyze {
		work.command = "VACUUM (ANALYZE)"
	}
	return work.run(ctx, conn, job.Args.Tables)
}

package tenantsync

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// again is after how long a job comes again that has met another sync.
const again = 5 * time.Second

// Rows are the rows of a table of tenants.
type Rows struct {
	// Columns are all columns of the table.
	Columns []string

	// Each reads the table anew, as of one moment, and calls do with each row as an object of
	// JSON, or, of a row that is too long to be read, an array as wire.RowsBegin makes it. The
	// text is do's until do returns. It ends with the first error, do's included.
	Each func(ctx context.Context, do func(row []byte) error) error

	// Ours returns nil while no other job can have begun to read the table.
	Ours func(ctx context.Context) error
}

// Syncer makes the catalog as rows are, in one transaction of the central database, and says
// what was done. It calls Rows.Ours behind the last row and before it writes.
type Syncer func(ctx context.Context, job *jobs.Job[Args], rows Rows) (jobs.Result, error)

// New returns the handler of [Args], which is registered with worker.ReadOnly. One sync runs
// at a time; a job that meets another one comes again five seconds later, without an attempt
// used.
//
// Arguments that can never work end the job for good ([jobs.Cancel]). All other errors, a
// Syncer's included, use an attempt.
func New(sync Syncer) jobs.TxHandler[Args] {
	one := make(chan struct{}, 1)
	return func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Args]) error {
		if err := job.Args.Check(); err != nil {
			return jobs.Cancel(fmt.Errorf("sync: %w", err))
		}
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		default:
			return jobs.Snooze(again)
		}
		rows, err := open(ctx, tx, job.Args)
		if err != nil {
			return err
		}
		result, err := sync(ctx, job, rows)
		if err != nil {
			return err
		}
		*job.Result = result
		return nil
	}
}

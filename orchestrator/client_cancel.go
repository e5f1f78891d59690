package orchestrator

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Cancel ends a job. A job that no worker has begun is cancelled at once, and the
// history says by whom. A job that runs is marked and its worker is told: the
// handler's context ends, and its transaction is rolled back; if it commits before
// that, the job has succeeded. The result says which of the two it was.
//
// A job that waits between two attempts is marked too, and is due now: an attempt at
// it may still be open, out of reach, or may have committed before its worker was
// lost. So the next attempt does no work but asks the ledger, and the job is then
// cancelled, or has succeeded. It waits like other work: behind a pause of its
// tenant the job stays cancelling.
//
// If that takes longer, cancelling again after jobs.TombstoneAfter enqueues a
// tombstone, a job that stops this one in its tenant's ledger; so does the janitor unasked.
// The tombstone's answer ends the row.
//
// The error matches jobs.ErrJobFinished (with its state) or jobs.ErrUnknownJob.
func (c *Client) Cancel(ctx context.Context, uid string, opts *jobs.CancelOpts) (result jobs.CancelResult, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		result, err = c.CancelTx(ctx, tx, uid, opts)
		return err
	})
	if err != nil {
		return jobs.CancelResult{}, err
	}
	return result, nil
}

// CancelTx is Cancel inside the caller's transaction on the central database.
// Until that ends, the job is neither claimed nor ended.
func (c *Client) CancelTx(ctx context.Context, tx pgx.Tx, uid string, opts *jobs.CancelOpts) (jobs.CancelResult, error) {
	return c.queue.Cancel(ctx, tx, uid, opts)
}

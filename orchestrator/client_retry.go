package orchestrator

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Retry makes a job run now: one that was discarded, cancelled or put in
// quarantine, or that waits for its time or its next attempt. It keeps its UID,
// so that the ledger goes on to guard its effect: if an attempt has had it after
// all, the job succeeds without doing it again. If its attempts are used up it
// is given one more. A waiting job stays as it is.
//
// The error matches jobs.ErrRetryRefused if the job runs or has succeeded (it then
// matches jobs.ErrJobFinished too), if it is being cancelled, if it was stopped in its
// tenant's ledger, or if an attempt of which nobody knows what it has come to began
// so long ago that the ledger may have forgotten it (jobs.LedgerRetention); else
// jobs.ErrUnknownJob, or, if no worker would take the job now, jobs.ErrTenantSuspended,
// jobs.ErrFeatureOff or jobs.ErrKindNotAllowed.
func (c *Client) Retry(ctx context.Context, uid string) (result jobs.RetryResult, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		result, err = c.RetryTx(ctx, tx, uid)
		return err
	})
	if err != nil {
		return jobs.RetryResult{}, err
	}
	return result, nil
}

// RetryTx is Retry inside the caller's transaction on the central database.
func (c *Client) RetryTx(ctx context.Context, tx pgx.Tx, uid string) (jobs.RetryResult, error) {
	return c.queue.Retry(ctx, tx, uid)
}

// Rerun enqueues a job once more, as a new job with a UID of its own: the same
// kind and arguments for the same tenant or database, with the same queue,
// priority, attempts, tags and timeout unless opts says otherwise, and due now
// unless opts says when. The first job stays as it is, in whatever state, and if
// it has had its effect, that happens again. A rerun of a scheduled occurrence
// is for the same nominal time.
//
// The result's RerunOf is the first job's UID. Errors are those of Enqueue,
// jobs.ErrUnknownJob, and jobs.ErrRetryRefused once the row has left the queue, for the
// history keeps no arguments.
func (c *Client) Rerun(ctx context.Context, uid string, opts *jobs.EnqueueOpts) (result jobs.EnqueueResult, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		result, err = c.RerunTx(ctx, tx, uid, opts)
		return err
	})
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	return result, nil
}

// RerunTx is Rerun inside the caller's transaction on the central database.
func (c *Client) RerunTx(ctx context.Context, tx pgx.Tx, uid string, opts *jobs.EnqueueOpts) (jobs.EnqueueResult, error) {
	return c.queue.Rerun(ctx, tx, uid, opts)
}

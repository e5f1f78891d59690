package orchestrator

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Succeeded lists the jobs that have succeeded in a database in a time, by when they ended.
// It is for a database that was restored to an earlier state: the effects and the ledger
// rows of such jobs are gone together, and the history alone knows of them. Which of them
// the database still has, its ledger says.
//
// It reads the months of the history from then on as a whole, because outcomes have no index
// of times, and returns at most jobs.MostSucceeded. Errors match jobs.ErrUnknownDatabase, or are an InputError for
// a time in the future, before the history or before what a ledger remembers.
func (c *Client) Succeeded(ctx context.Context, filter jobs.SucceededFilter) ([]jobs.SucceededJob, error) {
	return c.queue.Succeeded(ctx, filter)
}

// RerunOnce reruns up to jobs.MaxRerunOnce jobs, as Rerun does, but each of them once,
// however often it is asked for: a repeated call returns the job that the first one made,
// for the 30 days that idempotency keys are kept. What refuses one job stands in its result
// and keeps no other one back.
func (c *Client) RerunOnce(ctx context.Context, uids []string) (results []jobs.RerunOnceResult, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		results, err = c.RerunOnceTx(ctx, tx, uids)
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// RerunOnceTx is RerunOnce inside the caller's transaction on the central database.
func (c *Client) RerunOnceTx(ctx context.Context, tx pgx.Tx, uids []string) ([]jobs.RerunOnceResult, error) {
	return c.queue.RerunOnce(ctx, tx, uids)
}

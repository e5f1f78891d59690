package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// Retry makes a job run now, under its UID (see orchestrator.Client).
func (q *Queue) Retry(ctx context.Context, tx pgx.Tx, uid string) (jobs.RetryResult, error) {
	r, err := q.lockRow(ctx, tx, uid)
	if gone := (*jobs.JobFinishedError)(nil); errors.As(err, &gone) {
		return jobs.RetryResult{}, fmt.Errorf("%w: %w; the history does not keep arguments, so enqueue it anew", jobs.ErrRetryRefused, err)
	}
	if err != nil {
		return jobs.RetryResult{}, fmt.Errorf("retrying a job: %w", err)
	}
	if err := r.refuseRetry(); err != nil {
		return jobs.RetryResult{}, err
	}
	if err := q.mayRun(ctx, tx, &r); err != nil {
		return jobs.RetryResult{}, fmt.Errorf("retrying job %s: %w", r.uid, err)
	}
	result := jobs.RetryResult{UID: r.uid, Was: r.state, Attempt: r.attempt, MaxAttempts: r.maxAttempts}
	if r.state == jobs.Waiting {
		return result, wakeQueues(ctx, tx, r.queue)
	}
	result.MaxAttempts = min(max(r.maxAttempts, r.attempt+1), math.MaxInt16)
	if err := makeAvailable(ctx, tx, r.id, result.MaxAttempts); err != nil {
		return jobs.RetryResult{}, fmt.Errorf("retrying job %s: %w", r.uid, err)
	}
	return result, wakeQueues(ctx, tx, r.queue)
}

// mayRun says whether the tenant takes work, and of the row's kind. Else no claim would take
// the job, and whoever retries it would take it for one that runs. A tenant that is not there
// is the worker's to tell of.
func (q *Queue) mayRun(ctx context.Context, tx pgx.Tx, r *row) error {
	if r.meta.Tenant == "" {
		return nil
	}
	tenants, err := q.catalog.TenantsByNameTx(ctx, tx, []string{r.meta.Tenant})
	if errors.Is(err, jobs.ErrUnknownTenant) {
		return nil
	}
	if err != nil {
		return err
	}
	tenant := tenants[r.meta.Tenant]
	if err := tenant.TakesWork(); err != nil {
		return err
	}
	return tenant.MayHave(r.kind)
}

// refuseRetry says why the job must not run again under its UID, and what to do
// instead.
func (r *row) refuseRetry() error {
	since := func(at *time.Time) string {
		if at == nil {
			return "an unknown time"
		}
		return jobs.Time{Time: *at}.UTC().Format(time.RFC3339)
	}
	switch {
	case r.finalizedAt == nil && r.begun && r.meta.cancelledAt() != nil:
		return fmt.Errorf("%w: job %s is being cancelled since %s; wait for its end", jobs.ErrRetryRefused, r.uid, since(r.meta.cancelledAt()))
	case r.state == jobs.Running:
		return fmt.Errorf("%w: job %s is running since %s; wait for its end, or cancel it", jobs.ErrRetryRefused, r.uid, since(r.attemptedAt))
	case r.state == jobs.Unconfirmed:
		return fmt.Errorf("%w: job %s waits for the transaction that enqueues it to be confirmed", jobs.ErrRetryRefused, r.uid)
	case r.state == jobs.Succeeded:
		return fmt.Errorf("%w: %w; its effect is done, `headgate job rerun %s` does it once more as a new job", jobs.ErrRetryRefused, r.finished(), r.uid)
	case r.meta.Tombstone != "":
		return fmt.Errorf("%w: job %s was stopped for good in its tenant's ledger; `headgate job rerun %s` makes a new job of it", jobs.ErrRetryRefused, r.uid, r.uid)
	case wire.LedgerForgets(r.meta.OpenSince, r.now):
		began := time.Unix(r.meta.OpenSince, 0)
		return fmt.Errorf("%w: an attempt at job %s began %s and did not tell of its end, and that is longer ago than the %d days that its tenant's ledger remembers: its effect could happen twice; if it is not there, or that is no harm, `headgate job rerun %s` makes a new job of it",
			jobs.ErrRetryRefused, r.uid, since(&began), jobs.LedgerRetention/(24*time.Hour), r.uid)
	}
	return nil
}

// makeAvailableSQL forgets what kept the job from running: the wish to cancel it
// and the suspicion that it kills its workers.
const makeAvailableSQL = `
WITH released AS (
    DELETE FROM headgate.suspects WHERE job_id = $1
)
UPDATE river_job
SET state = 'available', scheduled_at = now(), finalized_at = NULL, max_attempts = $2,
    metadata = headgate.as_object(metadata) - 'cancel_attempted_at' - 'cancel_request'
WHERE id = $1`

func makeAvailable(ctx context.Context, tx pgx.Tx, id int64, maxAttempts int) error {
	_, err := tx.Exec(ctx, makeAvailableSQL, id, maxAttempts)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "23505" {
		return fmt.Errorf("%w: another job with the same unique key is in the queue: %w", jobs.ErrRetryRefused, err)
	}
	return err
}

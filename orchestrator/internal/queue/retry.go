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

// ErrRetryRefused: the job cannot be tried again, or not under this UID. The
// error's sentence says why and what can be done.
var ErrRetryRefused = jobs.Sentinel("retry_refused", "job is not retried")

// RetryResult names a job that waits for a worker again.
type RetryResult struct {
	UID         string     `json:"uid"`
	ID          int64      `json:"id"`
	Was         jobs.State `json:"was"` // its state before
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"max_attempts"` // one more than before if they were used up
}

// Retry makes a job run now, under its UID (see orchestrator.Client).
func (q *Queue) Retry(ctx context.Context, tx pgx.Tx, uidOrID string) (RetryResult, error) {
	r, err := q.lockRow(ctx, tx, uidOrID)
	if gone := (*JobFinishedError)(nil); errors.As(err, &gone) {
		return RetryResult{}, fmt.Errorf("%w: %w; the history does not keep arguments, so enqueue it anew", ErrRetryRefused, err)
	}
	if err != nil {
		return RetryResult{}, fmt.Errorf("retrying a job: %w", err)
	}
	if err := r.refuseRetry(); err != nil {
		return RetryResult{}, err
	}
	result := RetryResult{UID: r.uid, ID: r.id, Was: r.state, Attempt: r.attempt, MaxAttempts: r.maxAttempts}
	if r.state == jobs.Waiting {
		return result, wakeQueues(ctx, tx, r.queue)
	}
	result.MaxAttempts = min(max(r.maxAttempts, r.attempt+1), math.MaxInt16)
	if err := makeAvailable(ctx, tx, r.id, result.MaxAttempts); err != nil {
		return RetryResult{}, fmt.Errorf("retrying job %s: %w", r.uid, err)
	}
	return result, wakeQueues(ctx, tx, r.queue)
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
		return fmt.Errorf("%w: job %s is being cancelled since %s; wait for its end", ErrRetryRefused, r.uid, since(r.meta.cancelledAt()))
	case r.state == jobs.Running:
		return fmt.Errorf("%w: job %s is running since %s; wait for its end, or cancel it", ErrRetryRefused, r.uid, since(r.attemptedAt))
	case r.state == jobs.Unconfirmed:
		return fmt.Errorf("%w: job %s waits for the transaction that enqueues it to be confirmed", ErrRetryRefused, r.uid)
	case r.state == jobs.Succeeded:
		return fmt.Errorf("%w: %w; its effect is done, `headgate job rerun %s` does it once more as a new job", ErrRetryRefused, r.finished(), r.name())
	case r.meta.Tombstone != "":
		return fmt.Errorf("%w: job %s was stopped for good in its tenant's ledger; `headgate job rerun %s` makes a new job of it", ErrRetryRefused, r.uid, r.name())
	case wire.LedgerForgets(r.meta.OpenSince, r.now):
		began := time.Unix(r.meta.OpenSince, 0)
		return fmt.Errorf("%w: an attempt at job %s began %s and did not tell of its end, and that is longer ago than the %d days that its tenant's ledger remembers: its effect could happen twice; if it is not there, or that is no harm, `headgate job rerun %s` makes a new job of it",
			ErrRetryRefused, r.uid, since(&began), jobs.LedgerRetention/(24*time.Hour), r.name())
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
		return fmt.Errorf("%w: another job with the same unique key is in the queue: %w", ErrRetryRefused, err)
	}
	return err
}

package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// CancelOpts says who cancels a job and why. Both are kept with the job and in
// its history, cut at 200 and 500 bytes.
type CancelOpts struct {
	Actor  string
	Reason string
}

// CancelResult says how far a cancellation has come.
type CancelResult struct {
	UID string `json:"uid"`
	ID  int64  `json:"id"`

	// State is "cancelled", or "cancelling" while a worker that was at work on
	// the job has not ended it yet.
	State string `json:"state"`

	// RequestedAt is when it was first asked for, by the database's clock.
	RequestedAt time.Time `json:"requested_at"`

	// Tombstone is the UID of the job that makes sure, in the tenant's own
	// database, that a worker out of reach has no effect any more. "" if no such
	// job is needed.
	Tombstone string `json:"tombstone,omitempty"`
}

// Cancelling is the state of a job that a worker is at work on and somebody
// wants cancelled.
const Cancelling = "cancelling"

// TombstoneAfter is how long a worker is given to end a cancelled job before a
// tombstone is enqueued for it.
const TombstoneAfter = time.Minute

// Cancel ends a job. One that waits is cancelled at once, and the history says
// by whom. One that runs is marked and its worker is told: the handler's context
// ends, and its transaction is rolled back; if it commits before that, the job
// has succeeded. The result says which of the two it was.
//
// If the worker does not answer, cancelling again after TombstoneAfter enqueues
// a tombstone (jobs.Tombstone), as does the janitor unasked. So does cancelling
// a job whose last worker was lost, since that may not be quite dead.
//
// The error matches ErrJobFinished (with its state) or ErrUnknownJob.
func (c *Client) Cancel(ctx context.Context, uidOrID string, opts *CancelOpts) (result CancelResult, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		result, err = c.CancelTx(ctx, tx, uidOrID, opts)
		return err
	})
	if err != nil {
		return CancelResult{}, err
	}
	return result, nil
}

// CancelTx is Cancel inside the caller's transaction on the central database.
// Until that ends, the job is neither claimed nor completed.
func (c *Client) CancelTx(ctx context.Context, tx pgx.Tx, uidOrID string, opts *CancelOpts) (CancelResult, error) {
	if opts == nil {
		opts = &CancelOpts{}
	}
	r, err := c.lockRow(ctx, tx, uidOrID)
	if err != nil {
		return CancelResult{}, fmt.Errorf("cancelling a job: %w", err)
	}
	if err := r.finished(); err != nil {
		return CancelResult{}, fmt.Errorf("cancelling a job: %w; there is nothing left to cancel", err)
	}
	if r.meta.Cancel == nil {
		request := jobs.CancelRequest{By: clip(opts.Actor, 200), Reason: clip(opts.Reason, 500), At: r.now.UTC()}
		if at := r.meta.CancelAttemptedAt; at != nil { // through another River client
			request.At = at.UTC()
		}
		r.meta.Cancel = &request
	}
	if err := c.cancelRow(ctx, tx, &r); err != nil {
		return CancelResult{}, fmt.Errorf("cancelling job %s: %w", r.uid, err)
	}
	result := CancelResult{UID: r.uid, ID: r.id, State: r.state, RequestedAt: r.meta.Cancel.At.UTC(), Tombstone: r.meta.Tombstone}
	if r.state == "running" {
		result.State = Cancelling
	}
	return result, nil
}

const noteCancel = `
UPDATE river_job SET metadata = metadata || jsonb_build_object('cancel_request', $2::jsonb) WHERE id = $1`

// cancelRow lets River do it, which leaves the row cancelled, or marked and its
// worker notified, and adds what River does not know.
func (c *Client) cancelRow(ctx context.Context, tx pgx.Tx, r *row) error {
	after, err := c.river.JobCancelTx(ctx, tx, r.id)
	if err != nil {
		return err
	}
	r.state = string(after.State)
	request, err := json.Marshal(r.meta.Cancel)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteCancel, r.id, request); err != nil {
		return err
	}
	if r.state != "running" {
		return c.endWaiting(ctx, tx, r)
	}
	if r.now.Sub(r.meta.Cancel.At) > TombstoneAfter {
		return c.tombstone(ctx, tx, r)
	}
	return nil
}

const insertCancelled = `
INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, message, started_at, ended_at, schedule)
VALUES ($1, $2, $3, nullif($4, '')::uuid, $5, $6, 'cancelled', $7, now(), now(), $8)`

// endWaiting writes the history of a job that was cancelled before it ran, or
// between two attempts. If the last of these was lost, nobody knows whether it
// will still commit, and the ledger is told.
func (c *Client) endWaiting(ctx context.Context, tx pgx.Tx, r *row) error {
	last, ok, err := lastOutcome(ctx, tx, r.uid)
	if err != nil {
		return err
	}
	tenant := r.meta.Tenant
	if _, err := uuid.Parse(tenant); err != nil {
		tenant = ""
	}
	_, err = tx.Exec(ctx, insertCancelled, uuid.Must(uuid.NewV7()), r.uid, r.id, tenant, r.kind, r.attempt, r.meta.Cancel.String(), r.meta.Schedule)
	if err != nil {
		return fmt.Errorf("writing its outcome: %w", err)
	}
	if ok && (last.Class == jobs.ClassLostWorker || last.Class == jobs.ClassInterrupted) {
		return c.tombstone(ctx, tx, r)
	}
	return nil
}

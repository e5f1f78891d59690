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

	// State is "cancelled", or "cancelling" while an attempt at the job is open, or
	// may be: what has become of it is not known yet.
	State string `json:"state"`

	// RequestedAt is when it was first asked for, by the database's clock.
	RequestedAt time.Time `json:"requested_at"`

	// Tombstone is the UID of the job that makes sure, in the tenant's own
	// database, that a worker out of reach has no effect any more. "" if no such
	// job is needed.
	Tombstone string `json:"tombstone,omitempty"`
}

// Cancelling is the state of a job that somebody wants cancelled and that has not
// ended: a worker is at work on it, or its tenant's ledger has not yet said what an
// earlier attempt has come to.
const Cancelling = "cancelling"

// TombstoneAfter is how long a job may be cancelling before a tombstone is enqueued
// for it.
const TombstoneAfter = time.Minute

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
// If that takes longer, cancelling again after TombstoneAfter enqueues a tombstone
// (jobs.Tombstone), as does the janitor unasked. The tombstone's answer ends the row.
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
	return CancelResult{UID: r.uid, ID: r.id, State: r.state, RequestedAt: r.meta.Cancel.At.UTC(), Tombstone: r.meta.Tombstone}, nil
}

const noteCancel = `
UPDATE river_job SET metadata = headgate.as_object(metadata) || jsonb_build_object('cancel_request', $2::jsonb) WHERE id = $1`

// settleNowSQL makes a job due whose ledger is to be asked, first in line. Its unique
// key, if another River client gave it one, is free for another job.
const settleNowSQL = `
UPDATE river_job
SET state = 'available', scheduled_at = least(scheduled_at, now()), priority = 1, unique_key = NULL,
    metadata = headgate.as_object(metadata) || jsonb_build_object('cancel_attempted_at', coalesce(metadata->'cancel_attempted_at', to_jsonb(now())))
WHERE id = $1`

// cancelRow ends a row that was never begun, and marks any other: its worker is
// notified, or it is due. It notes who asked for it.
func (c *Client) cancelRow(ctx context.Context, tx pgx.Tx, r *row) error {
	if waits := r.state != "running"; waits && r.begun {
		if _, err := tx.Exec(ctx, settleNowSQL, r.id); err != nil {
			return err
		}
		if err := wake(ctx, tx, []item{{queue: r.queue}}); err != nil {
			return err
		}
		r.state = Cancelling
	} else if err := markCancelled(ctx, tx, r); err != nil {
		return err
	} else if r.state == "running" {
		r.state = Cancelling
	}
	request, err := json.Marshal(r.meta.Cancel)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteCancel, r.id, request); err != nil {
		return err
	}
	switch {
	case r.state != Cancelling:
		return tellCancelled(ctx, tx, r)
	case r.now.Sub(r.meta.Cancel.At) > TombstoneAfter:
		return c.tombstone(ctx, tx, r)
	}
	return nil
}

const insertCancelled = `
INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, message, started_at, ended_at, schedule)
VALUES ($1, $2, $3, nullif($4, '')::uuid, $5, $6, 'cancelled', $7, now(), now(), $8)`

// tellCancelled writes the history of a job that was cancelled before it ran.
func tellCancelled(ctx context.Context, tx pgx.Tx, r *row) error {
	_, err := tx.Exec(ctx, insertCancelled, uuid.Must(uuid.NewV7()), r.uid, r.id, r.meta.Tenant, r.kind, r.attempt, r.meta.Cancel.String(), clip(r.meta.Schedule, 200))
	if err != nil {
		return fmt.Errorf("writing its outcome: %w", err)
	}
	return nil
}

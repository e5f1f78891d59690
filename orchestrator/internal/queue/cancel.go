package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// Cancel ends a job, or asks for its end (see orchestrator.Client). Until tx ends, the
// job is neither claimed nor ended.
func (q *Queue) Cancel(ctx context.Context, tx pgx.Tx, uid string, opts *jobs.CancelOpts) (jobs.CancelResult, error) {
	if opts == nil {
		opts = &jobs.CancelOpts{}
	}
	r, err := q.lockRow(ctx, tx, uid)
	if err != nil {
		return jobs.CancelResult{}, fmt.Errorf("cancelling a job: %w", err)
	}
	return q.cancelLocked(ctx, tx, &r, opts)
}

func (q *Queue) cancelLocked(ctx context.Context, tx pgx.Tx, r *row, opts *jobs.CancelOpts) (jobs.CancelResult, error) {
	if err := r.finished(); err != nil {
		return jobs.CancelResult{}, fmt.Errorf("cancelling a job: %w; there is nothing left to cancel", err)
	}
	if r.meta.Cancel == nil {
		request := jobs.CancelRequest{By: fit.Clip(opts.Actor, 200), Reason: fit.Clip(opts.Reason, 500), At: r.now.UTC()}
		if at := r.meta.CancelAttemptedAt; at != nil { // through another River client
			request.At = at.UTC()
		}
		r.meta.Cancel = &request
	}
	if err := q.cancelRow(ctx, tx, r); err != nil {
		return jobs.CancelResult{}, fmt.Errorf("cancelling job %s: %w", r.uid, err)
	}
	return jobs.CancelResult{UID: r.uid, State: r.state, RequestedAt: r.meta.Cancel.At.UTC(), Tombstone: r.meta.Tombstone}, nil
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
func (q *Queue) cancelRow(ctx context.Context, tx pgx.Tx, r *row) error {
	if waits := r.state != jobs.Running; waits && r.begun && !r.settled {
		if _, err := tx.Exec(ctx, settleNowSQL, r.id); err != nil {
			return err
		}
		if err := wakeQueues(ctx, tx, r.queue); err != nil {
			return err
		}
		r.state = jobs.Cancelling
	} else if err := markCancelled(ctx, tx, r); err != nil {
		return err
	} else if r.state == jobs.Running {
		r.state = jobs.Cancelling
	}
	request, err := json.Marshal(r.meta.Cancel)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteCancel, r.id, request); err != nil {
		return err
	}
	switch {
	case r.state != jobs.Cancelling:
		return tellCancelled(ctx, tx, r)
	case r.now.Sub(r.meta.Cancel.At) > jobs.TombstoneAfter:
		return q.tombstone(ctx, tx, r)
	}
	return nil
}

const insertCancelled = `
INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, message, started_at, ended_at, schedule)
VALUES ($1, $2, $3, nullif($4, '')::uuid, $5, $6, 'cancelled', $7, now(), now(), $8)`

// tellCancelled writes the history of a job that was cancelled before it ran.
func tellCancelled(ctx context.Context, tx pgx.Tx, r *row) error {
	_, err := tx.Exec(ctx, insertCancelled, uuid.Must(uuid.NewV7()), r.uid, r.id, r.meta.Tenant, r.kind, r.attempt, r.meta.Cancel.String(), fit.Clip(r.meta.Schedule, 200))
	if err != nil {
		return fmt.Errorf("writing its outcome: %w", err)
	}
	return nil
}

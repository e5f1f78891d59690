package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// leaver is a waiting job of a tenant that takes no work.
type leaver struct {
	Row                       int64
	UID, Slug, Status, Reason string
	Unknown                   bool // nobody will ever know what its last attempt has come to
}

// selectLeavers finds and locks waiting jobs of the tenants whose waiting jobs are to be
// cancelled, by the indexes of waiting rows by queue and lane, and of later rows by lane. A
// row that another session has locked is left to a later pass, so that it keeps no other
// waiting. The state is asked of the locked row, because a claim may have taken it since the
// snapshot, and what runs ends as it would. OFFSET 0 keeps the walk one of each queue's part
// of the index: joined, all available rows would be read for each tenant. How long ago the
// tenant left does not count: what is to become of its jobs may be decided later, and no
// janitor may have run since. $3 are rows that the pass has tried.
//
// A removed tenant comes back never. Its jobs that somebody asked to cancel are ended too, and
// those of which an attempt may have been done once that attempt is old ($2).
const selectLeavers = `
WITH q AS MATERIALIZED (SELECT * FROM headgate.waiting_queues() AS w (name))
SELECT r.id, headgate.job_uid(r.metadata, r.id, r.created_at)::text, t.name, t.status, t.status_reason, t.status = 'removed' AND r.metadata ? 'open_since'
FROM headgate.tenants t
CROSS JOIN LATERAL (
    SELECT a.id
    FROM q
    CROSS JOIN LATERAL (SELECT j.id FROM river_job j WHERE j.queue = q.name AND headgate.lane(j.metadata) = t.id::text AND j.state = 'available' OFFSET 0) a
    UNION ALL
    SELECT j.id FROM river_job j WHERE headgate.lane(j.metadata) = t.id::text AND j.state IN ('scheduled', 'retryable')
) w
JOIN river_job r ON r.id = w.id
WHERE t.waiting = 'cancel' AND t.status IN ('suspended', 'archived', 'removed')
  AND r.state IN ('available', 'scheduled', 'retryable') AND r.id <> ALL ($3)
  AND (NOT r.metadata ? 'cancel_request' OR t.status = 'removed')
  AND (NOT r.metadata ? 'open_since' OR t.status <> 'removed' OR r.metadata->'open_since' < to_jsonb(extract(epoch FROM now() - $2::interval)))
LIMIT $1
FOR UPDATE OF r SKIP LOCKED`

// walkIndexes keeps the plan of selectLeavers one of nested loops along indexes: statistics of
// the lanes' expression change by chance, and with some of them all rows of the queue would be
// hashed.
const walkIndexes = `
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`

// ownEnds says that the ends of begun rows are Headgate's. The transaction is a janitor's, and
// ends nothing else. Without it the end of a row that an attempt had in hand is undone.
const ownEnds = `SELECT ` + wire.OwnEnds

// openFor is longer than a session of an attempt lives whose worker is gone.
const openFor = time.Hour

// Leaving is what a pass over such jobs has come to. Its zero value begins one.
type Leaving struct {
	Cancelled int
	Failed    []error
	tried     []int64 // rows that are not cancelled, so that they fill no later batch
}

func (l *Leaving) notNull() []int64 { return append([]int64{}, l.tried...) } // NULL would exclude all rows

// mostTried bounds what one pass remembers.
const mostTried = 10_000

// CancelLeavers cancels waiting jobs of tenants that take no work and whose waiting jobs are
// to be cancelled, at most so many, which stay locked until tx ends. What fails for one job
// keeps no other from its end. more says that another call may find further ones. What the
// call did counts in pass only if tx commits: the caller drops the pass otherwise.
func (q *Queue) CancelLeavers(ctx context.Context, tx pgx.Tx, pass *Leaving, most int) (more bool, err error) {
	if _, err := tx.Exec(ctx, walkIndexes); err != nil {
		return false, fmt.Errorf("looking for jobs of tenants that take no work: %w", err)
	}
	if _, err := tx.Exec(ctx, ownEnds); err != nil {
		return false, fmt.Errorf("cancelling jobs of tenants that take no work: %w", err)
	}
	rows, _ := tx.Query(ctx, selectLeavers, most, openFor, pass.notNull()) // its error is CollectRows' too
	leavers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[leaver])
	if err != nil {
		return false, err
	}
	for _, l := range leavers {
		reason := fmt.Sprintf("tenant %s is %s", l.Slug, l.Status)
		if l.Reason != "" {
			reason += ": " + l.Reason
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			return q.cancelLeaver(ctx, tx, &l, reason)
		})
		if err == nil {
			pass.Cancelled++
			continue
		}
		if central.Over(ctx, tx) {
			return false, err
		}
		pass.tried = append(pass.tried, l.Row)
		if !errors.Is(err, jobs.ErrJobFinished) && !errors.Is(err, jobs.ErrUnknownJob) {
			pass.Failed = append(pass.Failed, fmt.Errorf("cancelling job %s of a tenant that takes no work: %w", l.UID, err))
		}
	}
	return len(leavers) == most && len(pass.tried) < mostTried, nil
}

// cancelLeaver cancels a job without asking its tenant's ledger, which no worker would do, if
// its last attempt has ended in order. An attempt that has not is asked about once the tenant
// is active again; a removed tenant's is told as what nobody knows.
func (q *Queue) cancelLeaver(ctx context.Context, tx pgx.Tx, l *leaver, reason string) error {
	if l.Unknown {
		reason += "; nobody knows whether its last attempt was done"
	}
	r, err := q.lockRow(ctx, tx, l.UID)
	if err != nil {
		return err
	}
	r.settled = r.meta.OpenSince == 0 || l.Unknown
	_, err = q.cancelLocked(ctx, tx, &r, &jobs.CancelOpts{Actor: "janitor", Reason: reason})
	return err
}

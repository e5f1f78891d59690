package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// The history is kept by month. The bound on ended_at spares the months before
// the job was made: see madeAfter.
const selectAttempts = `
SELECT id::text, job_uid::text, job_id, coalesce(tenant_id::text, ''), coalesce(database_id::text, ''), kind, attempt, state, class,
       sqlstate, message, trace, recovered, started_at, ended_at, rows, output, schedule, worker
FROM headgate.outcomes WHERE job_uid = $1 AND ended_at >= $2 ORDER BY ended_at, id LIMIT 1000`

// Attempts returns the ended attempts of a job, oldest first, from the history,
// which outlives the queue's row.
func (c *Client) Attempts(ctx context.Context, uid string) ([]jobs.Outcome, error) {
	if uid == "" {
		return nil, nil
	}
	rows, err := c.pool.Query(ctx, selectAttempts, uid, madeAfter(uid))
	if err != nil {
		return nil, fmt.Errorf("reading the attempts of job %s: %w", uid, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (o jobs.Outcome, err error) {
		err = row.Scan(&o.ID, &o.JobUID, &o.JobID, &o.TenantID, &o.DatabaseID, &o.Kind, &o.Attempt, &o.State, &o.Class,
			&o.SQLState, &o.Message, &o.Trace, &o.Recovered, &o.StartedAt, &o.EndedAt, &o.Result.Rows, &o.Result.Output, &o.Schedule, &o.Worker)
		return o, err
	})
}

// madeAfter is a time before the job with this UID was made. A UIDv7 begins with
// the time; the week is for the clock of whoever minted it. Of another UID
// nothing is known.
func madeAfter(uid string) time.Time {
	id, err := uuid.Parse(uid)
	if err != nil || id.Version() != 7 {
		return time.Unix(0, 0)
	}
	return time.Unix(id.Time().UnixTime()).Add(-7 * 24 * time.Hour)
}

const selectLastOutcome = `
SELECT state, class, message, ended_at FROM headgate.outcomes
WHERE job_uid = $1 AND ended_at >= $2 ORDER BY ended_at DESC, id DESC LIMIT 1`

// lastOutcome returns what is known of a job's last attempt; ok is false if
// there is none.
func lastOutcome(ctx context.Context, tx pgx.Tx, uid string) (last jobs.Outcome, ok bool, err error) {
	err = tx.QueryRow(ctx, selectLastOutcome, uid, madeAfter(uid)).Scan(&last.State, &last.Class, &last.Message, &last.EndedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return last, false, nil
	}
	if err != nil {
		return last, false, fmt.Errorf("reading the last attempt of job %s: %w", uid, err)
	}
	return last, true, nil
}

package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// The history is kept by month, and each month has an index of UIDs. A UID tells no
// time, so every month is asked: as many probes as the history has months.
const selectAttempts = `
SELECT id::text, job_uid::text, job_id, coalesce(tenant_id::text, ''), coalesce(database_id::text, ''), kind, attempt, state, class,
       sqlstate, message, trace, recovered, started_at, ended_at, rows, output, schedule, worker
FROM headgate.outcomes WHERE job_uid = $1 ORDER BY ended_at, id LIMIT 1000`

// Attempts returns the ended attempts of a job, oldest first, from the history,
// which outlives the queue's row.
func (q *Queue) Attempts(ctx context.Context, uid string) ([]jobs.Outcome, error) {
	if uid == "" {
		return nil, nil
	}
	rows, err := q.pool.Query(ctx, selectAttempts, uid)
	if err != nil {
		return nil, fmt.Errorf("reading the attempts of job %s: %w", uid, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (o jobs.Outcome, err error) {
		err = row.Scan(&o.ID, &o.JobUID, &o.JobID, &o.TenantID, &o.DatabaseID, &o.Kind, &o.Attempt, &o.State, &o.Class,
			&o.SQLState, &o.Message, &o.Trace, &o.Recovered, &o.StartedAt, &o.EndedAt, &o.Result.Rows, &o.Result.Output, &o.Schedule, &o.Worker)
		return o, err
	})
}

const selectLastOutcome = `
SELECT state, class, message, ended_at FROM headgate.outcomes
WHERE job_uid = $1 ORDER BY ended_at DESC, id DESC LIMIT 1`

// lastOutcome returns what is known of a job's last attempt; ok is false if
// there is none.
func lastOutcome(ctx context.Context, tx pgx.Tx, uid string) (last jobs.Outcome, ok bool, err error) {
	err = tx.QueryRow(ctx, selectLastOutcome, uid).Scan(&last.State, &last.Class, &last.Message, &last.EndedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return last, false, nil
	}
	if err != nil {
		return last, false, fmt.Errorf("reading the last attempt of job %s: %w", uid, err)
	}
	return last, true, nil
}

package claim

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// River's leader makes due rows available by one statement. River's own statement waits
// for every locked row, and fails with the first row that cannot be moved. It also reads
// whole rows, so that one row with a time of infinity stops all others. promoteSQL takes
// its place, behind the same method of the driver.

// executor is River's executor; transactions that it begins are executorTx.
type executor struct {
	riverdriver.Executor
	pilot *pilot
}

// Begin is called by River.
func (e *executor) Begin(ctx context.Context) (riverdriver.ExecutorTx, error) {
	tx, err := e.Executor.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &executorTx{tx, e.pilot}, nil
}

type executorTx struct {
	riverdriver.ExecutorTx
	pilot *pilot
}

// JobSchedule is called by River's leader.
func (t *executorTx) JobSchedule(ctx context.Context, params *riverdriver.JobScheduleParams) ([]*riverdriver.JobScheduleResult, error) {
	return promote(ctx, t.pilot.unwrap(t), t.pilot.log, params)
}

// promoteSQL is River's own statement with three differences: it leaves locked rows for
// the next time, $3 limits it to some rows (NULL: all), and it returns only what River
// reads. A row whose unique key is taken is discarded. A row that may have an open attempt
// is not: it loses its key, because its ledger must be asked first.
const promoteSQL = `
WITH ours AS MATERIALIZED (
    SELECT ` + ownSQL + `
), due AS MATERIALIZED (
    SELECT id, unique_key, unique_states, priority, scheduled_at, metadata ? 'open_since' AS open FROM river_job
    WHERE state IN ('retryable', 'scheduled') AND priority >= 0 AND queue IS NOT NULL AND scheduled_at <= coalesce($1::timestamptz, now())
      AND ($3::bigint[] IS NULL OR id = ANY ($3))
    ORDER BY priority, scheduled_at, id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), placed AS (
    SELECT d.id, d.open, d.unique_key IS NOT NULL AND d.unique_states IS NOT NULL AND (
               row_number() OVER (PARTITION BY d.unique_key ORDER BY d.priority, d.scheduled_at, d.id) > 1
               OR EXISTS (SELECT FROM river_job o WHERE o.unique_key = d.unique_key AND o.id <> d.id AND o.unique_states IS NOT NULL
                          AND river_job_state_in_bitmask(o.unique_states, o.state))) AS taken
    FROM due d
), decided AS (
    SELECT id, taken AND NOT open AS conflict, taken AND open AS eased FROM placed
)
UPDATE river_job j
SET unique_states = CASE WHEN p.eased THEN NULL ELSE j.unique_states END,
    state = CASE WHEN p.conflict THEN 'discarded'::river_job_state ELSE 'available' END,
    finalized_at = CASE WHEN p.conflict THEN coalesce($1::timestamptz, now()) ELSE j.finalized_at END,
    metadata = CASE WHEN p.conflict THEN j.metadata || '{"unique_key_conflict": "scheduler_discarded"}' ELSE j.metadata END
FROM ours, decided p
WHERE j.id = p.id
RETURNING j.id, j.queue, j.scheduled_at, p.conflict`

// dueIDsSQL are the rows that promoteSQL would move.
const dueIDsSQL = `
SELECT id FROM river_job
WHERE state IN ('retryable', 'scheduled') AND priority >= 0 AND queue IS NOT NULL AND scheduled_at <= coalesce($1::timestamptz, now())
ORDER BY priority, scheduled_at, id
LIMIT $2
FOR UPDATE SKIP LOCKED`

// oneByOne is how many rows one pass moves one by one.
const oneByOne = 500

// promote makes due rows available in River's transaction. If one of them fails as an odd
// row does, the rows are moved one by one, and an odd row is set aside.
func promote(ctx context.Context, tx pgx.Tx, log *slog.Logger, params *riverdriver.JobScheduleParams) (moved []*riverdriver.JobScheduleResult, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		moved, err = promoteRows(ctx, tx, params.Now, params.Max, nil)
		return err
	})
	if !oddRow(err) || tryPlain(ctx, tx, "scheduled", "default", func(tx pgx.Tx, id int64) error {
		_, err := promoteRows(ctx, tx, params.Now, 1, []int64{id})
		return err
	}) != nil {
		return moved, err
	}
	rows, err := tx.Query(ctx, dueIDsSQL, params.Now, min(params.Max, oneByOne))
	if err != nil {
		return nil, fmt.Errorf("making due jobs available: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("making due jobs available: %w", err)
	}
	moved = nil
	for _, id := range ids {
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			one, err := promoteRows(ctx, tx, params.Now, 1, []int64{id})
			moved = append(moved, one...)
			return err
		})
		if oddRow(err) {
			setAsideIn(ctx, tx, log, id, "made available", err)
			err = nil
		}
		if err != nil {
			return nil, err
		}
	}
	return moved, nil
}

func promoteRows(ctx context.Context, tx pgx.Tx, now *time.Time, most int, only []int64) ([]*riverdriver.JobScheduleResult, error) {
	rows, err := tx.Query(ctx, promoteSQL, now, most, only)
	if err != nil {
		return nil, fmt.Errorf("making due jobs available: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*riverdriver.JobScheduleResult, error) {
		var at jobs.Time
		job := rivertype.JobRow{State: rivertype.JobStateAvailable}
		r := &riverdriver.JobScheduleResult{}
		err := row.Scan(&job.ID, &job.Queue, &at, &r.ConflictDiscarded)
		if job.ScheduledAt = at.Time; r.ConflictDiscarded {
			job.State = rivertype.JobStateDiscarded
		}
		r.Job = job
		return r, err
	})
}

package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// monthsAhead is how many months of the history are there before they begin.
const monthsAhead = 2

const addMonth = `SELECT coalesce(headgate.add_outcomes_month($1), '')`

// makeMonths makes the partitions of this month and the coming ones.
func (j *Janitor) makeMonths(ctx context.Context, swept *Swept) error {
	return j.locked(ctx, "making the history's coming months", func(tx pgx.Tx) error {
		now, err := clock(ctx, tx)
		if err != nil {
			return err
		}
		var made []string
		for ahead := range monthsAhead + 1 {
			year, month, _ := now.UTC().Date()
			var name string
			if err := tx.QueryRow(ctx, addMonth, time.Date(year, month+time.Month(ahead), 1, 0, 0, 0, 0, time.UTC)).Scan(&name); err != nil {
				return err
			}
			if name != "" {
				made = append(made, name)
			}
		}
		swept.Made = made
		return nil
	})
}

// historyEnd is the time before which the history is dropped: by the database's
// clock and by ours, for a clock that is years ahead must not cost the history.
func (j *Janitor) historyEnd(ctx context.Context, tx pgx.Tx) (time.Time, error) {
	now, err := clock(ctx, tx)
	if own := time.Now(); own.Before(now) {
		now = own
	}
	return now.Add(-j.cfg.HistoryRetention), err
}

const dropMonthsSQL = `SELECT nullif(headgate.drop_outcomes_months($1), '{}')`

func (j *Janitor) dropMonths(ctx context.Context, swept *Swept) error {
	return j.locked(ctx, "dropping the history's old months", func(tx pgx.Tx) error {
		end, err := j.historyEnd(ctx, tx)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, dropMonthsSQL, end).Scan(&swept.Dropped)
	})
}

const deleteStraysSQL = `
DELETE FROM headgate.outcomes_default WHERE (id, ended_at) IN (
    SELECT id, ended_at FROM headgate.outcomes_default WHERE ended_at < least($1, now() - $2::interval) ORDER BY ended_at LIMIT $3)`

// deleteStrays deletes the old outcomes that lie in no month of their own.
func (j *Janitor) deleteStrays(ctx context.Context, swept *Swept) error {
	return j.batches(ctx, "deleting old outcomes", deleteStraysSQL, &swept.Strays, time.Now().Add(-j.cfg.HistoryRetention), j.cfg.HistoryRetention)
}

// unfinishedOfKey finds the job of a key k that has not ended, by the index of UIDs.
const unfinishedOfKey = `EXISTS (
        SELECT FROM river_job j
        WHERE j.state <> 'completed' AND j.metadata ? 'job_uid' AND j.metadata->>'job_uid' = k.job_uid::text AND j.finalized_at IS NULL)`

// renewKeysSQL keeps the keys of jobs that have not ended, which may lie years ahead or
// wait behind a pause: each of them is looked at once in a retention.
const renewKeysSQL = `
UPDATE headgate.idempotency_keys SET created_at = now() WHERE (scope, key) IN (
    SELECT scope, key FROM headgate.idempotency_keys k WHERE created_at < now() - $1::interval AND ` + unfinishedOfKey + `
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`

const deleteKeysSQL = `
DELETE FROM headgate.idempotency_keys WHERE (scope, key) IN (
    SELECT scope, key FROM headgate.idempotency_keys k WHERE created_at < now() - $1::interval AND NOT ` + unfinishedOfKey + `
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`

func (j *Janitor) deleteKeys(ctx context.Context, swept *Swept) error {
	var renewed int
	if err := j.batches(ctx, "renewing the idempotency keys of jobs that have not ended", renewKeysSQL, &renewed, IdempotencyRetention); err != nil {
		return err
	}
	return j.batches(ctx, "deleting old idempotency keys", deleteKeysSQL, &swept.Keys, IdempotencyRetention)
}

// workerRetention is how long a worker that is gone is listed.
const workerRetention = 7 * 24 * time.Hour

// deleteWorkersSQL takes the suspects along whose jobs have left the queue.
const deleteWorkersSQL = `
WITH innocent AS (
    DELETE FROM headgate.suspects s WHERE NOT EXISTS (SELECT FROM river_job j WHERE j.id = s.job_id)
)
DELETE FROM headgate.workers WHERE incarnation IN (
    SELECT incarnation FROM headgate.workers WHERE coalesce(reaped_at, ended_at) < now() - $1::interval LIMIT $2)`

func (j *Janitor) deleteWorkers(ctx context.Context, swept *Swept) error {
	return j.batches(ctx, "deleting workers that are long gone", deleteWorkersSQL, &swept.Workers, workerRetention)
}

// selectCancelling finds the jobs that are being cancelled, whether they run or wait
// for their ledger to be asked, by the partial index on them. How long ago that was is compared
// in Go: what another client wrote into the metadata may not be a time. Rows that get no tombstone
// stay as they are, so each pass goes on behind the last row of the one before ($2).
const selectCancelling = rowColumns + `
WHERE id > $2 AND finalized_at IS NULL AND metadata ? 'cancel_attempted_at' AND NOT metadata ? 'tombstone_uid'
ORDER BY id
LIMIT $1
FOR UPDATE SKIP LOCKED`

// beforeAll is below every row: an id that River did not give may be negative.
const beforeAll = math.MinInt64

// buryCancelled enqueues a tombstone for each job that has been cancelling for too
// long.
func (j *Janitor) buryCancelled(ctx context.Context, swept *Swept) error {
	var failed []error
	err := j.locked(ctx, "enqueueing tombstones for cancelled jobs", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectCancelling, j.cfg.Batch, j.buried)
		if err != nil {
			return err
		}
		cancelling, err := pgx.CollectRows(rows, scanRow)
		if err != nil {
			return err
		}
		if j.buried = beforeAll; len(cancelling) == j.cfg.Batch {
			j.buried = cancelling[len(cancelling)-1].id
		}
		for i := range cancelling {
			r := &cancelling[i]
			if at := r.meta.cancelledAt(); at == nil || r.now.Sub(*at) <= TombstoneAfter {
				continue
			}
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return j.client.tombstone(ctx, tx, r) })
			switch {
			case err != nil && over(ctx, tx):
				return err
			case err != nil: // this one; the others have theirs
				failed = append(failed, fmt.Errorf("enqueueing a tombstone for job %d, %s: %w", r.id, r.uid, err))
			case r.meta.Tombstone != "":
				swept.Tombstones++
			}
		}
		return nil
	})
	return errors.Join(append(failed, err)...)
}

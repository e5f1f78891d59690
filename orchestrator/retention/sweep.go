package retention

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// monthsAhead and daysAhead are how many months of the history, and days of what handlers
// log, are there before they begin.
const (
	monthsAhead = 2
	daysAhead   = 4
)

// leastAudit is more than the 13 months that headgate.drop_audit_months keeps.
const leastAudit = 13 * 31 * 24 * time.Hour

const addMonth = `SELECT coalesce(headgate.add_outcomes_month($1), '')`

// makeMonths makes the partitions of this month and the coming ones.
func (j *Janitor) makeMonths(ctx context.Context, swept *Swept) error {
	return j.makeParts(ctx, "making the history's coming months", addMonth, monthsAhead, &swept.Made, month)
}

const addAuditMonth = `SELECT coalesce(headgate.add_audit_month($1), '')`

// makeAuditMonths does it for the audit.
func (j *Janitor) makeAuditMonths(ctx context.Context, swept *Swept) error {
	return j.makeParts(ctx, "making the audit's coming months", addAuditMonth, monthsAhead, &swept.MadeAudit, month)
}

// month is the beginning of a month ahead.
func month(now time.Time, ahead int) time.Time {
	return time.Date(now.Year(), now.Month()+time.Month(ahead), 1, 0, 0, 0, 0, time.UTC)
}

const addDay = `SELECT coalesce(headgate.add_job_logs_day($1), '')`

// makeDays does it for the days of what handlers log.
func (j *Janitor) makeDays(ctx context.Context, swept *Swept) error {
	return j.makeParts(ctx, "making the coming days of what jobs log", addDay, daysAhead, &swept.MadeDays, func(now time.Time, ahead int) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+ahead, 0, 0, 0, 0, time.UTC)
	})
}

func (j *Janitor) makeParts(ctx context.Context, doing, add string, most int, into *[]string, begin func(now time.Time, ahead int) time.Time) error {
	return j.locked(ctx, doing, func(tx pgx.Tx) error {
		now, err := central.Clock(ctx, tx)
		if err != nil {
			return err
		}
		var made []string
		for ahead := range most + 1 {
			var name string
			if err := tx.QueryRow(ctx, add, begin(now.UTC(), ahead)).Scan(&name); err != nil {
				return err
			}
			if name != "" {
				made = append(made, name)
			}
		}
		*into = made
		return nil
	})
}

const dropMonthsSQL = `SELECT nullif(headgate.drop_outcomes_months($1), '{}')`

func (j *Janitor) dropMonths(ctx context.Context, swept *Swept) error {
	return j.dropParts(ctx, "dropping the history's old months", dropMonthsSQL, j.cfg.HistoryRetention, &swept.Dropped)
}

const dropAuditMonthsSQL = `SELECT nullif(headgate.drop_audit_months($1), '{}')`

func (j *Janitor) dropAuditMonths(ctx context.Context, swept *Swept) error {
	return j.dropParts(ctx, "dropping the audit's old months", dropAuditMonthsSQL, j.cfg.KeepAudit, &swept.DroppedAudit)
}

const dropDaysSQL = `SELECT nullif(headgate.drop_job_logs_days($1), '{}')`

func (j *Janitor) dropDays(ctx context.Context, swept *Swept) error {
	return j.dropParts(ctx, "dropping old days of what jobs have logged", dropDaysSQL, j.cfg.KeepJobLogs, &swept.DroppedDays)
}

// dropParts drops what is old by the database's clock and by ours, for a clock that is
// years ahead must not cost the history.
func (j *Janitor) dropParts(ctx context.Context, doing, drop string, keep time.Duration, into *[]string) error {
	return j.locked(ctx, doing, func(tx pgx.Tx) error {
		now, err := central.Clock(ctx, tx)
		if err != nil {
			return err
		}
		if own := time.Now(); own.Before(now) {
			now = own
		}
		return tx.QueryRow(ctx, drop, now.Add(-keep)).Scan(into)
	})
}

const deleteStraysSQL = `
DELETE FROM headgate.outcomes_default WHERE (id, ended_at) IN (
    SELECT id, ended_at FROM headgate.outcomes_default WHERE ended_at < least($1, now() - $2::interval) ORDER BY ended_at LIMIT $3)`

// deleteStrays deletes the old outcomes that lie in no month of their own.
func (j *Janitor) deleteStrays(ctx context.Context, swept *Swept) error {
	return j.batches(ctx, "deleting old outcomes", deleteStraysSQL, &swept.Strays, time.Now().Add(-j.cfg.HistoryRetention), j.cfg.HistoryRetention)
}

const deleteStrayLogsSQL = `
DELETE FROM headgate.job_logs_default WHERE (job_uid, ended_at, id) IN (
    SELECT job_uid, ended_at, id FROM headgate.job_logs_default WHERE ended_at < least($1, now() - $2::interval) ORDER BY ended_at LIMIT $3)`

// deleteStrayLogs deletes what jobs have logged that lies in no day of its own.
func (j *Janitor) deleteStrayLogs(ctx context.Context, swept *Swept) error {
	return j.batches(ctx, "deleting what jobs have logged", deleteStrayLogsSQL, &swept.StrayLogs, time.Now().Add(-j.cfg.KeepJobLogs), j.cfg.KeepJobLogs)
}

func (j *Janitor) deleteKeys(ctx context.Context, swept *Swept) error {
	var renewed int
	if err := j.batches(ctx, "renewing the idempotency keys of jobs that have not ended", queue.RenewKeysSQL, &renewed, jobs.IdempotencyRetention); err != nil {
		return err
	}
	return j.batches(ctx, "deleting old idempotency keys", queue.DeleteKeysSQL, &swept.Keys, jobs.IdempotencyRetention)
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

// leaversBatch bounds the jobs that one transaction cancels. Each takes several statements,
// and its row is locked until the end.
const leaversBatch = 50

// cancelLeavers cancels waiting jobs of tenants that take no work, where that was decided. It
// begins no further batch after half of the step's time, and keeps those that it has done.
func (j *Janitor) cancelLeavers(ctx context.Context, swept *Swept) error {
	pass := &queue.Leaving{}
	for began := time.Now(); ; {
		more, done := false, *pass
		err := j.locked(ctx, "cancelling waiting jobs of tenants that take no work", func(tx pgx.Tx) (err error) {
			more, err = j.queue.CancelLeavers(ctx, tx, &done, min(leaversBatch, j.cfg.Batch))
			return err
		})
		if err != nil {
			return errors.Join(append(pass.Failed, err)...)
		}
		*pass, swept.Cancelled = done, done.Cancelled
		if !more || time.Since(began) > j.cfg.StepTimeout/2 {
			return errors.Join(pass.Failed...)
		}
	}
}

// buryCancelled enqueues a tombstone for each job that has been cancelling for too
// long. Each pass goes on behind the last row of the pass before.
func (j *Janitor) buryCancelled(ctx context.Context, swept *Swept) error {
	var failed []error
	err := j.locked(ctx, "enqueueing tombstones for cancelled jobs", func(tx pgx.Tx) error {
		done, err := j.queue.BuryCancelled(ctx, tx, j.buried, j.cfg.Batch)
		failed, j.buried = done.Failed, done.Last
		swept.Tombstones += done.Tombstones
		return err
	})
	return errors.Join(append(failed, err)...)
}

package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
)

var errCancelledWhileLost = errors.New("cancelled; its worker had died, and the job can no longer have its effect")

var errCancelledHalfWay = errors.New("cancelled; its worker had died half way, outside a transaction: it may have had a part of its effect and can have no more")

const tombstoneJob = `SELECT state, result FROM headgate.tombstone($1, $2, '', $3)`

// settle ends a job that was cancelled while its worker could not be reached:
// the row was given back with the mark, and this attempt does not run the
// handler but writes a tombstone into the tenant's ledger. If the work had been
// done after all, the job has succeeded. While a transaction of the lost
// attempt is still open the answer is errBusy, and the job stays to be settled.
func (a *attempt) settle(ctx context.Context) error {
	if a.kind.form == readOnly || a.kind.form == noConn {
		return jobs.Cancel(errCancelledWhileLost) // it has no effect in the tenant that a zombie could still commit
	}
	a.settling = true
	var state found
	var result []byte
	err := a.w.pools.With(ctx, a.place, func(ctx context.Context, conn *tenantdb.Conn) error {
		return conn.QueryRow(ctx, tombstoneJob, a.place.OrgID, a.meta.UID, a.lockTimeout().Milliseconds()).Scan(&state, &result)
	})
	switch {
	case sqlstate(err) == "55P03":
		return errBusy
	case err != nil:
		return fmt.Errorf("writing the tombstone: %w", err)
	case state == done:
		return a.recover(entry{}, result)
	case state == claimed:
		return jobs.Cancel(errCancelledHalfWay)
	default:
		return jobs.Cancel(errCancelledWhileLost)
	}
}

// registerInternal adds the kinds that Headgate enqueues for itself: the
// tombstones for cancelled jobs whose worker lives and does not answer.
func registerInternal(w *Worker) {
	InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[jobs.Tombstone]) error {
		return bury(ctx, tx, w, job.Tenant.OrgID, job.Args.UID, job.Result)
	})
	InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[jobs.DatabaseTombstone]) error {
		return bury(ctx, tx, w, 0, job.Args.UID, job.Result)
	})
}

func bury(ctx context.Context, tx pgx.Tx, w *Worker, org int64, uid string, result *jobs.Result) error {
	var state found
	var stored []byte
	err := tx.QueryRow(ctx, tombstoneJob, org, uid, w.cfg.LockTimeout.Milliseconds()).Scan(&state, &stored)
	if sqlstate(err) == "55P03" {
		return jobs.Snooze(w.cfg.HoldFor) // the job's own transaction is still open
	}
	if err != nil {
		return fmt.Errorf("writing the tombstone of job %s: %w", uid, err)
	}
	result.Output = "job " + uid + " is " + string(state) + " in its tenant's ledger"
	return nil
}

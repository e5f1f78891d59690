package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/claim"
)

var errCancelledWhileLost = errors.New("cancelled; its worker had died, and the job can no longer have its effect")

const tombstoneJob = `SELECT state, result FROM headgate.tombstone($1, $2, '', $3)`

// settle ends a job that was cancelled while its worker could not be reached:
// the row was given back with the mark, and this attempt does not run the
// handler but writes a tombstone into the tenant's ledger. If the work had been
// done after all, the job has succeeded. While a transaction of the lost
// attempt is still open the answer is errBusy, and the job stays to be settled.
func (a *attempt) settle(ctx context.Context) error {
	if a.kind.form != inTx {
		return jobs.Cancel(errCancelledWhileLost) // it has no effect in the tenant that a zombie could still commit
	}
	if err := river.MetadataSet(ctx, claim.SettlingKey, true); err != nil {
		return err
	}
	var state found
	var result []byte
	err := a.w.pools.With(ctx, a.place, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, tombstoneJob, a.place.OrgID, a.meta.UID, a.w.cfg.LockTimeout.Milliseconds()).Scan(&state, &result)
	})
	switch {
	case sqlstate(err) == "55P03":
		return errBusy
	case err != nil:
		return fmt.Errorf("writing the tombstone: %w", err)
	case state == done:
		return a.recover(result)
	default:
		return jobs.Cancel(errCancelledWhileLost)
	}
}

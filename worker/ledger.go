package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
)

// The ledger is one row in the tenant's own database for each job that has had
// its effect there. The functions are in migrations/tenant.

var (
	// errTombstone: the job was cancelled in the tenant's ledger.
	errTombstone = errors.New("the job was cancelled")

	// errBusy: another attempt of the job, alive or not yet cleaned up by the
	// server, holds the ledger's key.
	errBusy = errors.New("another attempt of this job has not ended yet")

	// errInterrupted: the connection was lost before the job was done.
	errInterrupted = errors.New("the connection to the tenant's database was lost before the job was done")
)

// found is the state of a ledger row.
type found string

const (
	begun     found = "begun"     // by us, just now
	absent    found = "absent"    // the probe's word for "nobody has"
	done      found = "done"      // the effect is committed
	tombstone found = "tombstone" // it must never happen
	claimed   found = "claimed"   // a committed claim without an end
)

// entry names a ledger row and says how it is written: the statement that opens
// the work and the one that ends it, both in the work's own transaction.
type entry struct {
	step       string // "" is the job itself
	begin, end string
}

const beginJob = `
SELECT state, result, ARRAY[` + guard.Columns + `] FROM headgate.begin_job($1, $2, $3, $4, $5, $6, $7, $8)`

const finishJob = `SELECT headgate.finish_job($1, $2, $3, $4), ARRAY[` + guard.Columns + `]`

// The optimistic form: nothing is written until the end.
const peekJob = `
SELECT state, result, ARRAY[` + guard.Columns + `] FROM headgate.peek_job($1, $2, $3, $4, $5, $6, $7, $8)`

const finishLate = `SELECT headgate.finish_late($1, $2, $3, $4), ARRAY[` + guard.Columns + `]`

// entry is the job's own row, written as its kind asks.
func (a *attempt) entry() entry {
	if a.kind.opts.Optimistic {
		return entry{begin: peekJob, end: finishLate}
	}
	return entry{begin: beginJob, end: finishJob}
}

// begin opens the work inside tx. It returns true if the work is to be done now,
// and the transaction's state to compare with at its end; false if the ledger
// says that it was done before: the stored result is then the attempt's.
func (a *attempt) begin(ctx context.Context, tx pgx.Tx, e entry) (bool, guard.State, error) {
	var state found
	var result []byte
	var before guard.State
	err := tx.QueryRow(ctx, e.begin, a.place.OrgID, a.meta.UID, e.step, a.place.Generation, a.appName(),
		a.timeout.Milliseconds(), a.w.cfg.LockTimeout.Milliseconds(), a.idleTimeout().Milliseconds()).Scan(&state, &result, &before)
	if err != nil {
		return false, nil, opening(err)
	}
	switch state {
	case begun:
		return true, before, nil
	case done:
		return false, nil, a.recover(e, result)
	case tombstone:
		return false, nil, errTombstone
	default:
		// Only a COMMIT of the job's own leaves this behind, and the ledger's
		// trigger refuses that: somebody has been at the trigger.
		return false, nil, &guard.EscapedError{Ended: true}
	}
}

// opening tells what an error of the statement that opens a job means.
func opening(err error) error {
	switch sqlstate(err) {
	case "55P03":
		return errBusy
	case "55000":
		return fmt.Errorf("%w: %w", jobs.ErrTenantMoving, err)
	}
	return fmt.Errorf("opening the job in the tenant's database: %w", err)
}

// recover takes the result of the attempt that did the work.
func (a *attempt) recover(e entry, result []byte) error {
	if e.step != "" {
		return nil // the job itself goes on
	}
	a.recovered = true
	if len(result) == 0 {
		return nil
	}
	if err := a.info.Result.Restore(result); err != nil {
		return fmt.Errorf("reading the stored result: %w", err)
	}
	return nil
}

const enterJob = `SELECT headgate.enter_job($1, $2, $3, $4, $5, $6)`

// enter opens a read-only job: the same context and limits, no ledger row.
func (a *attempt) enter(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, enterJob, a.place.OrgID, a.place.Generation, a.appName(),
		a.timeout.Milliseconds(), a.w.cfg.LockTimeout.Milliseconds(), a.idleTimeout().Milliseconds())
	if err != nil {
		return opening(err)
	}
	return nil
}

// finish marks the work done inside tx, as its last statement, and sees with the
// same one that the transaction is still the one that it began in.
func (a *attempt) finish(ctx context.Context, tx pgx.Tx, e entry, before guard.State) error {
	result, err := a.result(e)
	if err != nil {
		return err
	}
	var ours bool
	var now guard.State
	if err := tx.QueryRow(ctx, e.end, a.place.OrgID, a.meta.UID, e.step, result).Scan(&ours, &now); err != nil {
		if sqlstate(err) == "55P03" {
			return errBusy
		}
		return fmt.Errorf("marking the job done: %w", err)
	}
	if err := guard.Compare(before, now); err != nil {
		return err
	}
	if !ours && e.end == finishLate {
		return &unansweredCommitError{errOvertaken}
	}
	if !ours {
		return errors.New("the job's ledger row is gone from its own transaction; nothing is committed")
	}
	return nil
}

// errOvertaken: another attempt of an optimistic kind committed first. What it
// left is asked for as after a commit that was not answered.
var errOvertaken = errors.New("another attempt has done the work")

// result is what the ledger keeps of the work.
func (a *attempt) result(e entry) ([]byte, error) {
	if e.step != "" {
		return nil, nil
	}
	a.info.Result.Output = clean(a.info.Result.Output, 64<<10)
	a.nameFollowUps()
	result, err := a.info.Result.Store()
	if err != nil {
		return nil, fmt.Errorf("encoding the job's result: %w", err)
	}
	return result, nil
}

const probe = `SELECT state, result FROM headgate.probe($1, $2, '', $3)`

// ask learns what became of a COMMIT that was never answered. The answer is nil
// if it happened, errInterrupted if it did not, errBusy if that is not decided
// yet; the job is then tried again later, and the ledger decides.
func (a *attempt) ask(ctx context.Context) error {
	// The attempt's own time may be up; the question is worth a little more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*a.w.cfg.LockTimeout)
	defer cancel()
	var state found
	var result []byte
	err := a.w.pools.With(ctx, a.place, func(ctx context.Context, conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(ctx) }() // the probe's row must not stay
		return tx.QueryRow(ctx, probe, a.place.OrgID, a.meta.UID, a.w.cfg.LockTimeout.Milliseconds()).Scan(&state, &result)
	})
	switch {
	case sqlstate(err) == "55P03":
		return errBusy
	case err != nil:
		return fmt.Errorf("%w, and asking its ledger failed: %w", errInterrupted, err)
	case state == done:
		return a.recover(entry{}, result)
	case state == tombstone:
		return errTombstone
	default:
		return errInterrupted
	}
}

// appName names the job in the server's pg_stat_activity.
func (a *attempt) appName() string {
	return "headgate/" + a.row.Kind[:min(len(a.row.Kind), 40)] + "/" + a.meta.UID[max(len(a.meta.UID)-12, 0):]
}

func (a *attempt) idleTimeout() time.Duration {
	if a.kind.opts.IdleTimeout > 0 {
		return a.kind.opts.IdleTimeout
	}
	return 60 * time.Second
}

func sqlstate(err error) string {
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

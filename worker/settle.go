package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/internal/fault"
	"github.com/headgate/headgate/worker/tenantdb"
)

// A job of which an attempt may be open, or may have committed without a word, is
// ended only by its ledger's answer:
//
//	cancelled, and no attempt can commit any more   closed: it ends as cancelled
//	cancelled otherwise                             settle: a tombstone, and what it met
//	to be discarded, and a lost attempt before      it waits until the ledger has answered
//	begun so long ago that the ledger forgets       unsafe: it is not run, and told
//
// A job that cannot be settled now goes back, cancelling, and uses no attempt.

var (
	errCancelled = errors.New("no attempt can have its effect any more")

	errCancelledHalfWay = errors.New("an attempt at it ended half way, outside a transaction: it may have had a part of its effect and can have no more")
)

// unsettledError: the ledger has not answered, so the job may not be ended.
type unsettledError struct{ err error }

func (e *unsettledError) Error() string {
	return fmt.Sprintf("not settled yet: %v", e.err)
}

func (e *unsettledError) Unwrap() error { return e.err }

// forgottenError: the ledger has no row of the job, but an attempt that did not tell
// of its end began longer ago than the ledger remembers.
type forgottenError struct {
	uid   string
	since time.Time
}

func (e *forgottenError) Error() string {
	return fmt.Sprintf("an attempt at this job began %s and did not tell of its end, and the ledger remembers %d days only: look whether its effect is there; "+
		"if it is not, run it as a new job with: `headgate job rerun %s`", e.since.UTC().Format(time.RFC3339), jobs.LedgerRetention/(24*time.Hour), e.uid)
}

func (e *forgottenError) Is(target error) bool { return target == errUnsafe }

// forgotten says that a ledger without a row of the job means nothing. Both times are
// the central database's.
func (a *attempt) forgotten() error {
	if a.row.AttemptedAt == nil || !wire.LedgerForgets(a.meta.OpenSince, *a.row.AttemptedAt) {
		return nil
	}
	return &forgottenError{uid: a.meta.UID, since: time.Unix(a.meta.OpenSince, 0)}
}

// closed says that no attempt at the job can commit any more, this one included: it
// was the first, and its transaction is known to be rolled back or was never begun.
func (a *attempt) closed() bool {
	if !a.kind.keepsLedger() {
		return !a.settling // nothing of it commits in the tenant
	}
	outside := a.kind.form == onConn && a.asked // it may have had a part of its effect
	return !a.settling && !a.open && !outside && len(a.row.AttemptedBy) == 1 && a.meta.OpenSince == 0
}

// mayBeDone says that a lost attempt may have had the job's effect: the ledger has
// not denied it to this one, so the job has not failed.
func (a *attempt) mayBeDone() bool {
	return a.meta.OpenSince != 0 && !a.asked && a.kind.keepsLedger()
}

// conclude sees that an attempt which would end its job as cancelled may do so. The
// job is settled by its ledger first if any attempt at it may still be open.
func (a *attempt) conclude(ctx context.Context, err error) error {
	var own *jobs.CancelError
	byHandler := errors.As(err, &own)
	a.wanted = errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely)
	switch {
	case err == nil:
		return nil
	case a.settling, a.meta.OpenSince != 0 && a.kind.keepsLedger() && !a.called && classOf(err) == classGone:
		return a.unsettled(err)
	case !a.wanted && !byHandler, a.closed(), byHandler && (a.meta.OpenSince == 0 || a.place.DatabaseID == ""):
		return err // a handler knows what it has done
	case a.place.DatabaseID == "":
		return &unsettledError{err}
	}
	// The attempt's own time may be up; the question is worth a little more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*a.w.cfg.LockTimeout)
	defer cancel()
	answer := a.settle(ctx)
	if byHandler && errors.As(answer, &own) {
		return err // in its own words
	}
	return a.unsettled(answer)
}

// unsettled lets the ledger's answers pass, and wraps any other error.
func (a *attempt) unsettled(err error) error {
	var cancel *jobs.CancelError
	switch {
	case err == nil, errors.As(err, &cancel), errors.Is(err, errUnsafe):
		return err
	case classOf(err) == classGone:
		return fmt.Errorf("%w: nobody can ask its ledger: %w", errUnsafe, err)
	case classOf(err) == jobs.ClassBadArgs:
		return jobs.Cancel(err) // no attempt at it gets as far as its tenant
	}
	return &unsettledError{err}
}

const tombstoneJob = `SELECT state, result FROM headgate.tombstone($1, $2, $3)`

// askTombstone writes a tombstone into the ledger of place, and returns what stands
// there now. While a transaction of the job's is open the answer is errBusy. The
// statement waits for LockTimeout at most.
func (a *attempt) askTombstone(ctx context.Context, uid string) (state found, result []byte, err error) {
	err = a.w.pools.With(ctx, a.place, func(ctx context.Context, conn *tenantdb.Conn) error {
		return lost(conn.Conn, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			defer fault.Point(fault.Entombed)
			ticket := a.ticketOf(conn, uid)
			return tx.QueryRow(ctx, tombstoneJob, ticket.Text, ticket.MAC, a.lockTimeout().Milliseconds()).Scan(&state, &result)
		}))
	})
	if sqlstate(err) == "55P03" {
		return "", nil, errBusy
	}
	if err != nil {
		return "", nil, fmt.Errorf("writing the tombstone of job %s: %w", uid, err)
	}
	return state, result, nil
}

// settle ends a cancelled job by its ledger: it does not run the handler but writes a
// tombstone. If the work had been done after all, the job has succeeded.
func (a *attempt) settle(ctx context.Context) error {
	if !a.kind.keepsLedger() {
		return jobs.Cancel(a.cancelled(errCancelled)) // nothing of it commits in the tenant
	}
	state, result, err := a.askTombstone(ctx, a.meta.UID)
	if err != nil {
		return err
	}
	return a.settled(state, result)
}

// settled is what the answer to a tombstone means for the job.
func (a *attempt) settled(state found, result []byte) error {
	switch state {
	case done:
		a.open = false
		return a.recover(entry{}, result)
	case claimed:
		a.stopped = true
		return jobs.Cancel(a.cancelled(errCancelledHalfWay))
	}
	a.stopped = true
	if err := a.forgotten(); err != nil {
		return err
	}
	return jobs.Cancel(a.cancelled(errCancelled))
}

// cancelled says by whom, where the row says it.
func (a *attempt) cancelled(why error) error {
	by := "cancelled"
	if a.meta.Cancel != nil {
		by = a.meta.Cancel.String()
	}
	return fmt.Errorf("%s; %w", by, why)
}

// note writes into the row's metadata what later attempts and people must know of
// this one: since when an attempt is unaccounted for, and that the ledger stops the job.
func (a *attempt) note(ctx context.Context, end disposition) error {
	if !a.kind.keepsLedger() {
		return nil
	}
	if a.stopped || errors.Is(end.err, errTombstone) {
		return river.MetadataSet(ctx, "tombstone_uid", a.meta.UID)
	}
	if again := end.state == jobs.Failed || end.state == jobs.Snoozed; !again || a.row.AttemptedAt == nil {
		return nil
	}
	chunked := a.kind.opts.Idempotence == jobs.Chunked && a.asked // its steps are committed one by one
	from, until := a.open || chunked, a.asked && !a.open && !chunked
	if known := a.meta.OpenSince != 0; from && !known || until && known {
		return river.MetadataSet(ctx, "open_since", a.row.AttemptedAt.Unix())
	}
	return nil
}

// registerInternal adds the kinds that Headgate enqueues for itself: the tombstones
// of jobs that are being cancelled and that no attempt of their own has ended.
func registerInternal(w *Worker) {
	register(w, settles, func(context.Context, work, *jobs.Job[wire.Tombstone]) error { return nil })
	register(w, settles, func(context.Context, work, *jobs.Job[wire.DatabaseTombstone]) error { return nil })
}

// writeTombstone settles another job by its ledger and ends its row by the answer.
func (a *attempt) writeTombstone(ctx context.Context) error {
	var stone wire.Tombstone
	if err := json.Unmarshal(a.row.EncodedArgs, &stone); err != nil {
		return &badArgsError{kind: a.row.Kind, err: err}
	}
	state, result, err := a.askTombstone(ctx, stone.UID)
	if errors.Is(err, errBusy) {
		return jobs.Snooze(a.w.cfg.HoldFor) // the job's own transaction is still open
	}
	if err != nil {
		return err
	}
	a.info.Result.Output = "job " + stone.UID + " is " + string(state) + " in its tenant's ledger"
	if stone.ID == 0 {
		return nil
	}
	row, err := claim.Cancelling(ctx, a.w.cfg.Pool, stone.ID, stone.Token)
	if row == nil || err != nil {
		return err // it has ended, or another attempt at it has begun and settles it
	}
	if k := a.w.kinds[row.Kind]; k != nil && k.form == noConn {
		alive, err := claim.Alive(ctx, a.w.cfg.Pool, stone.Token)
		if alive || err != nil {
			return err // no ledger can say what its worker is doing: the row is that worker's to end
		}
	}
	of := &attempt{w: a.w, kind: a.kind, row: row, place: a.place, started: a.started, handling: a.handling, features: &featureReads{}}
	if err := of.read(); err != nil {
		return err
	}
	end := of.disposition(ctx, of.settled(state, result))
	outcome := of.outcome(end)
	followUps, err := of.followUps(telemetry.WithTraceParent(ctx, of.meta.TraceParent), end)
	if err != nil {
		return err
	}
	return claim.EndCancelling(ctx, a.w.cfg.Pool, stone.ID, stone.Token, claim.Completion{Outcome: &outcome, FollowUps: followUps})
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
)

// Kinds that cannot work in a transaction claim first and finish later:
//
//	claim_job ─▶ handler ─▶ finish_job          each commits by itself
//	    │
//	    └ found claimed: an attempt began and its end is not known
//	        idempotent, chunked   it runs again; committed steps are skipped
//	        verifiable            its verifier is asked whether it was done
//	        unsafe                it waits for a person
//
// The session lock that claim_job takes keeps other attempts out until this
// session is over, whoever has declared its worker dead.

// errUnsafe: nobody knows whether an unsafe job has had its effect.
var errUnsafe = errors.New("an attempt at this unsafe job began and did not tell of its end: look whether its effect is there; " +
	"if it is not, run it as a new job with: `headgate job rerun`")

// claimJob also lets the session idle for as long as the handler may take, and then some:
// the server ends the session of a process that has stopped.
const claimJob = `SELECT state, result FROM headgate.claim_job($1, $2, $3, $4, $5, $6, $7), headgate.watch_client($8, false), pg_catalog.set_config('idle_session_timeout', $9, false)`

// lendLonger is how much longer than its job's time a lent session may idle.
const lendLonger = 10 * time.Second

// onConn lends the handler the connection itself.
func (a *attempt) onConn(ctx context.Context, conn *tenantdb.Conn) error {
	var state found
	var result []byte
	conn.Lend()
	err := a.signed(ctx, conn, func(t tenantdb.Ticket) error {
		args := append([]any{t.Text, t.MAC, a.place.Generation, a.appName()}, a.limits()...)
		args = append(args, strconv.FormatInt(min((a.timeout+lendLonger).Milliseconds(), math.MaxInt32), 10))
		return conn.QueryRow(ctx, claimJob, args...).Scan(&state, &result)
	})
	if err != nil {
		return lost(conn.Conn, opening(err))
	}
	a.asked = state == begun || state == claimed
	switch state {
	case begun:
		if err := a.forgotten(); err != nil {
			return a.release(ctx, conn, err)
		}
	case done:
		return a.recover(entry{}, result)
	case tombstone:
		return errTombstone
	case claimed:
		if err := a.forgotten(); err != nil && a.kind.opts.Idempotence == jobs.Chunked {
			return err // its steps' rows have an end; its own has none while it is claimed
		}
		if over, err := a.takeOver(ctx, conn); over || err != nil {
			return lost(conn.Conn, err)
		}
	default:
		return errBusy
	}
	a.info.Step = a.step(conn)
	if err := a.call(ctx, work{conn: conn.Conn}); err != nil {
		return a.unfinished(ctx, conn, err)
	}
	err = a.finishOnConn(ctx, conn)
	a.open = err != nil && conn.IsClosed()
	return lost(conn.Conn, err)
}

// takeOver decides what becomes of a job that an earlier attempt began. It
// returns true if nothing is left to do.
func (a *attempt) takeOver(ctx context.Context, conn *tenantdb.Conn) (over bool, err error) {
	switch a.kind.opts.Idempotence {
	case jobs.Unsafe:
		return true, errUnsafe
	case jobs.Verifiable:
		a.called = true
		a.beginLog()
		a.handling.Store(true)
		happened, err := a.kind.verify(ctx, conn.Conn, a.info, a.row.EncodedArgs)
		a.handling.Store(false)
		if err != nil {
			return false, fmt.Errorf("looking whether the job was done: %w", err)
		}
		if happened {
			a.recovered = true
			return true, a.finishOnConn(ctx, conn)
		}
	}
	return false, nil
}

// The handler may have reset its session.
const finishTwoPhase = `SELECT headgate.finish_job($1, $2, $3)`

func (a *attempt) finishOnConn(ctx context.Context, conn *tenantdb.Conn) error {
	result, err := a.result(entry{})
	if err != nil {
		return err
	}
	var ours bool
	err = a.signed(ctx, conn, func(t tenantdb.Ticket) error {
		return conn.QueryRow(ctx, finishTwoPhase, t.Text, t.MAC, result).Scan(&ours)
	})
	if err != nil {
		if sqlstate(err) == "" && conn.IsClosed() {
			return &unansweredCommitError{err}
		}
		return fmt.Errorf("marking the job done: %w", err)
	}
	if !ours {
		return errTombstone
	}
	return nil
}

const releaseJob = `SELECT headgate.release_job($1, $2)`

// unfinished is what a handler's error means for the claim. Of an unsafe kind
// only the handler itself can say that nothing was done, by Snooze or Cancel;
// any other error leaves the claim for a person to look at, unless a middleware has not
// called the handler.
func (a *attempt) unfinished(ctx context.Context, conn *tenantdb.Conn, cause error) error {
	if a.kind.opts.Idempotence != jobs.Unsafe {
		return lost(conn.Conn, cause)
	}
	if a.passedBy {
		return a.release(ctx, conn, cause)
	}
	var cancel *jobs.CancelError
	var snooze *jobs.SnoozeError
	if !errors.As(cause, &cancel) && !errors.As(cause, &snooze) {
		return fmt.Errorf("%w (%w)", errUnsafe, cause)
	}
	return a.release(ctx, conn, cause)
}

// release takes the claim back.
func (a *attempt) release(ctx context.Context, conn *tenantdb.Conn, cause error) error {
	err := a.signed(ctx, conn, func(t tenantdb.Ticket) error {
		_, err := conn.Exec(ctx, releaseJob, t.Text, t.MAC)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w (taking its claim back: %w)", errUnsafe, err)
	}
	return cause
}

// step returns what Info.Step is on conn.
func (a *attempt) step(conn *tenantdb.Conn) func(context.Context, string, func(context.Context, pgx.Tx) error) error {
	return func(ctx context.Context, name string, do func(context.Context, pgx.Tx) error) error {
		if len(name) < 1 || len(name) > 100 {
			return fmt.Errorf("step %.100q: a step's name is 1 to 100 characters", name)
		}
		err := a.transact(ctx, conn, entry{step: name, begin: beginJob, end: endJob}, false,
			func(tx pgx.Tx) error { return unread(conn.Conn, do(ctx, tx)) })
		var unanswered *unansweredCommitError
		if errors.As(err, &unanswered) {
			return fmt.Errorf("%w: step %q: %w", errInterrupted, name, unanswered.err) // the next attempt asks the ledger
		}
		if err != nil && conn.PgConn().TxStatus() != 'I' {
			if _, rollbackErr := conn.Exec(context.WithoutCancel(ctx), "ROLLBACK"); rollbackErr != nil {
				return errors.Join(err, rollbackErr)
			}
		}
		return err
	}
}

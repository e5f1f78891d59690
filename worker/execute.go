package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker/internal/fault"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// execute connects and runs the handler in the form that its kind asks for.
func (a *attempt) execute(ctx context.Context) error {
	if a.kind.form == noConn {
		if err := a.w.centre.Own(); err != nil {
			return err
		}
		inside, end := telemetry.Step(ctx, telemetry.SpanHandler)
		err := a.mark(nil, a.call(inside, work{}))
		end(err)
		return late(ctx, err)
	}
	if a.kind.form == settles {
		return late(ctx, a.writeTombstone(ctx))
	}
	if done, err := a.readReplica(ctx); done {
		return err
	}
	place, err := a.where()
	if err != nil {
		return err
	}
	err = a.w.pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error { return a.lent(ctx, place, conn) })
	var unanswered *unansweredCommitError
	if !errors.As(err, &unanswered) {
		return late(ctx, err)
	}
	answer := a.ask(ctx)
	if work := (*workError)(nil); errors.Is(answer, errInterrupted) && errors.As(err, &work) && work.idled {
		return &workError{err: answer, idled: true}
	}
	return answer
}

// lent does the work on a connection of the pools.
func (a *attempt) lent(ctx context.Context, place address.Place, conn *tenantdb.Conn) error {
	if err := a.w.pools.Preflight(ctx, place, conn, a.info.BrandID != nil); err != nil {
		return err
	}
	a.conn = conn
	defer func() { a.log.release() }()
	return a.mark(conn, a.runOn(ctx, conn))
}

// runOn does the work on its connection.
func (a *attempt) runOn(ctx context.Context, conn *tenantdb.Conn) (err error) {
	name := telemetry.SpanTransaction
	if a.kind.form == onConn {
		name = telemetry.SpanSession
	}
	ctx, end := telemetry.Step(ctx, name)
	defer func() { end(err) }()
	switch a.kind.form {
	case readOnly:
		return a.readOnly(ctx, conn)
	case onConn:
		return a.onConn(ctx, conn)
	default:
		return a.transact(ctx, conn, a.entry(), true, func(tx pgx.Tx) error { return a.call(ctx, work{tx: tx}) })
	}
}

// where is the attempt's place, past a pooler if its kind needs a session.
func (a *attempt) where() (address.Place, error) {
	if a.kind.form == onConn {
		return tenantdb.Session(a.place)
	}
	return a.place, nil
}

// transact is the heart of the product: the ledger's row, the work's rows and
// the mark that they are done, in one transaction of the tenant's database. It
// does nothing if the ledger says that the work was done before.
//
// Its own part is two round trips: BEGIN goes with the statement that opens the
// job, COMMIT with the one that marks it done, and last with what makes the
// connection fit for the next job.
func (a *attempt) transact(ctx context.Context, conn *tenantdb.Conn, e entry, last bool, do func(tx pgx.Tx) error) error {
	inside, end := telemetry.Own(ctx, telemetry.SpanBegin)
	todo, before, err := a.begin(inside, conn, e)
	end(err)
	if err != nil {
		return lost(conn.Conn, err)
	}
	if !todo {
		_, err := conn.Exec(ctx, "ROLLBACK")
		return err
	}
	fault.Point(fault.Begun)
	if err := do(&handlerTx{conn: conn.Conn}); err != nil {
		return lost(conn.Conn, err)
	}
	if status := conn.PgConn().TxStatus(); status != 'T' {
		return lost(conn.Conn, endedInside(status))
	}
	fault.Point(fault.Finished)
	inside, end = telemetry.Own(ctx, telemetry.SpanCommit)
	err = a.finish(inside, conn, e, last, before)
	end(err)
	if err != nil {
		var unanswered *unansweredCommitError
		a.open = a.open || errors.As(err, &unanswered)
		return err
	}
	fault.Point(fault.Committed)
	return nil
}

// readOnly runs a handler that cannot write, with no ledger row.
func (a *attempt) readOnly(ctx context.Context, conn *tenantdb.Conn) error {
	inside, end := telemetry.Own(ctx, telemetry.SpanBegin)
	before, err := a.enter(inside, conn)
	end(err)
	if err != nil {
		return lost(conn.Conn, err)
	}
	if err := a.call(ctx, work{tx: &handlerTx{conn: conn.Conn}}); err != nil {
		return lost(conn.Conn, err)
	}
	if status := conn.PgConn().TxStatus(); status != 'T' {
		return lost(conn.Conn, endedInside(status))
	}
	inside, end = telemetry.Own(ctx, telemetry.SpanCommit)
	err = a.exit(inside, conn, before)
	end(err)
	return lost(conn.Conn, err)
}

// call runs the handler within the worker's middleware, and nothing else.
func (a *attempt) call(ctx context.Context, work work) error {
	a.called = true
	a.beginLog()
	a.handling.Store(true)
	defer a.handling.Store(false)
	run, err := a.kind.bind(a.info, a.row.EncodedArgs)
	if err != nil {
		a.passedBy = true
		return err
	}
	err = a.through(ctx, func(ctx context.Context) error { return run(ctx, work) })
	conn := work.conn
	if work.tx != nil {
		conn = work.tx.Conn()
	}
	return unread(conn, err)
}

// errRowsOpen: what a handler did not read to its end stands before the statement
// that marks its job done.
var errRowsOpen = errors.New("the handler left rows or results of a batch open: close them before it returns; nothing is committed")

// unread returns errRowsOpen where a handler is content and has left an answer
// unread. conn is nil for a kind without a connection.
func unread(conn *pgx.Conn, err error) error {
	if err == nil && conn != nil && conn.PgConn().IsBusy() {
		return errRowsOpen
	}
	return err
}

// endedInside says what a handler did to its transaction.
func endedInside(status byte) error {
	if status == 'E' {
		return errors.New("a statement of the job failed and its error was not returned; nothing is committed")
	}
	return &guard.EscapedError{Ended: true}
}

// unansweredCommitError: COMMIT was sent and no answer came. It may have
// happened; only the ledger knows.
type unansweredCommitError struct{ err error }

func (e *unansweredCommitError) Error() string { return fmt.Sprintf("no answer to COMMIT: %v", e.err) }
func (e *unansweredCommitError) Unwrap() error { return e.err }

// lost marks an error that came with a broken connection: nothing was
// committed, and it is not the job's fault. A statement that ran too long does
// not break it, since the server answers the request to cancel it. A handler's
// own answer stands.
func lost(conn *pgx.Conn, err error) error {
	var cancel *jobs.CancelError
	var snooze *jobs.SnoozeError
	if err == nil || !conn.IsClosed() || errors.As(err, &cancel) || errors.As(err, &snooze) {
		return err
	}
	return fmt.Errorf("%w: %w", errInterrupted, err)
}

// late says of an error that came after the attempt's time that the time was
// the reason, unless the handler cancelled the job.
func late(ctx context.Context, err error) error {
	var timeout *timeoutError
	if err != nil && errors.As(context.Cause(ctx), &timeout) {
		var cancel *jobs.CancelError
		if !errors.As(err, &cancel) {
			return fmt.Errorf("%w: %w", timeout, err)
		}
	}
	return err
}

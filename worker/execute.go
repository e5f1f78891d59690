package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/worker/internal/fault"
)

// execute connects and runs the handler in the form that its kind asks for.
func (a *attempt) execute(ctx context.Context) error {
	if a.kind.form == noConn {
		return late(ctx, a.call(ctx, work{}))
	}
	var unanswered *unansweredCommitError
	err := a.w.pools.With(ctx, a.place, func(ctx context.Context, conn *pgx.Conn) error {
		switch a.kind.form {
		case readOnly:
			return a.readOnly(ctx, conn)
		case onConn:
			return a.onConn(ctx, conn)
		default:
			return a.transact(ctx, conn, a.entry(), func(tx pgx.Tx) error { return a.call(ctx, work{tx: tx}) })
		}
	})
	if errors.As(err, &unanswered) {
		return a.ask(ctx)
	}
	return late(ctx, err)
}

// transact is the heart of the product: the ledger's row, the work's rows and
// the mark that they are done, in one transaction of the tenant's database. It
// does nothing if the ledger says that the work was done before.
func (a *attempt) transact(ctx context.Context, conn *pgx.Conn, e entry, do func(tx pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return lost(conn, err)
	}
	todo, before, err := a.begin(ctx, tx, e)
	if err != nil {
		return lost(conn, err)
	}
	if !todo {
		return tx.Rollback(ctx)
	}
	fault.Point(fault.Begun)
	if err := do(handlerTx{tx}); err != nil {
		return lost(conn, err)
	}
	if status := conn.PgConn().TxStatus(); status != 'T' {
		return lost(conn, endedInside(status))
	}
	if err := a.finish(ctx, tx, e, before); err != nil {
		return lost(conn, err)
	}
	fault.Point(fault.Finished)
	if err := tx.Commit(ctx); err != nil {
		if sqlstate(err) != "" || errors.Is(err, pgx.ErrTxCommitRollback) {
			return fmt.Errorf("committing: %w", err) // Postgres said no
		}
		return &unansweredCommitError{err}
	}
	fault.Point(fault.Committed)
	return nil
}

// readOnly runs a handler that cannot write, with no ledger row.
func (a *attempt) readOnly(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return lost(conn, err)
	}
	if err := a.enter(ctx, tx); err != nil {
		return lost(conn, err)
	}
	watch, err := guard.Watch(ctx, conn.PgConn())
	if err != nil {
		return lost(conn, err)
	}
	if err := a.call(ctx, work{tx: handlerTx{tx}}); err != nil {
		return lost(conn, err)
	}
	if err := watch.Check(ctx); err != nil {
		return lost(conn, err)
	}
	return lost(conn, tx.Rollback(ctx))
}

// call runs the handler, and nothing else.
func (a *attempt) call(ctx context.Context, work work) error {
	a.handling.Store(true)
	defer a.handling.Store(false)
	return a.kind.run(ctx, work, a.info, a.row.EncodedArgs)
}

// handlerTx is the transaction as the handler gets it: all of pgx.Tx but its
// ends. Begin makes a savepoint, which the handler may end as it likes.
type handlerTx struct{ pgx.Tx }

var errNotYours = errors.New("a handler may not end its transaction: return nil to commit, an error to roll back")

// Commit refuses.
func (handlerTx) Commit(context.Context) error { return errNotYours }

// Rollback refuses.
func (handlerTx) Rollback(context.Context) error { return errNotYours }

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
// committed, and it is not the job's fault. A handler's own verdict stands.
func lost(conn *pgx.Conn, err error) error {
	var cancel *jobs.CancelError
	var snooze *jobs.SnoozeError
	if err == nil || !conn.IsClosed() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &cancel) || errors.As(err, &snooze) {
		return err
	}
	return fmt.Errorf("%w: %w", errInterrupted, err)
}

// late says of an error that came after the attempt's time that the time was
// the reason, unless the handler gave a verdict of its own.
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

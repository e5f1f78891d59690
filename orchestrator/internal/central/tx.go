// Package central begins the transactions on the central database that Headgate
// opens itself.
//
// A process that freezes between two statements of a transaction keeps its locks
// from everybody else. So each transaction states its own limits as it begins: the
// server ends a session that leaves a transaction idle, and no statement waits long
// for a lock. Isolation and access are stated too, because the defaults of a server,
// a database or a role may be others. Nothing is compiled (jit), because statements here are
// short, and one that must walk along indexes has costs at which each would take a second.
// All of it is one round trip, and counts for
// one transaction only, so that it works behind a pooler in transaction mode.
//
// The weakness: Postgres takes neither limit into account while a COPY waits for
// its client's data, or an answer for its client to read it. What others need is then
// freed by them: headgate.end_stalled_sessions.
package central

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/orchestrator/access"
)

// Limits say how long a transaction may keep others waiting, and wait for them.
// Whole milliseconds, at least one each.
type Limits struct {
	Idle time.Duration // between two of its statements
	Lock time.Duration // for one lock
}

// Patience is for a call of an application or a person. Nothing is computed
// between its statements that takes a second, and who waits longer for a lock than
// this is better told. Idle is the shorter one: who waits for a process that has
// stopped gets the lock.
var Patience = Limits{Idle: 5 * time.Second, Lock: 8 * time.Second}

// Beginner is a pool or a connection of the central database.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Begin begins a transaction that writes: READ COMMITTED, with limits.
func Begin(ctx context.Context, db Beginner, limits Limits) (pgx.Tx, error) {
	return db.BeginTx(ctx, pgx.TxOptions{BeginQuery: limits.begin("READ COMMITTED READ WRITE")})
}

// BeginRead begins a transaction that reads as of one moment, with the limits of
// Patience. The snapshot is taken by its first query.
func BeginRead(ctx context.Context, db Beginner) (pgx.Tx, error) {
	return db.BeginTx(ctx, pgx.TxOptions{BeginQuery: Patience.begin("REPEATABLE READ READ ONLY")})
}

func (l Limits) begin(mode string) string {
	return fmt.Sprintf("BEGIN ISOLATION LEVEL %s; SET LOCAL idle_in_transaction_session_timeout = %d; SET LOCAL lock_timeout = %d; SET LOCAL jit = off",
		mode, max(l.Idle.Milliseconds(), 1), max(l.Lock.Milliseconds(), 1))
}

// Write runs do, as the actor of ctx, in a transaction of its own with the limits of Patience, commits
// if do returns nil, and else rolls back. Errors by a limit say what to do.
func Write(ctx context.Context, db Beginner, do func(tx pgx.Tx) error) error {
	return WriteWithin(ctx, db, Patience, do)
}

// WriteWithin is Write with limits.
func WriteWithin(ctx context.Context, db Beginner, limits Limits, do func(tx pgx.Tx) error) error {
	tx, err := Begin(ctx, db, limits)
	if err != nil {
		return err
	}
	err = run(ctx, tx, func(tx pgx.Tx) error {
		if access.From(ctx) != (access.Actor{}) {
			if err := access.Say(ctx, tx, "", ""); err != nil {
				return err
			}
		}
		return do(tx)
	})
	return limits.Explain(NameHolders(ctx, db, limits.Lock, err))
}

// Read runs do in a transaction of BeginRead.
func Read(ctx context.Context, db Beginner, do func(tx pgx.Tx) error) error {
	tx, err := BeginRead(ctx, db)
	if err != nil {
		return err
	}
	return Patience.Explain(run(ctx, tx, do))
}

func run(ctx context.Context, tx pgx.Tx, do func(tx pgx.Tx) error) error {
	defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing; a broken connection is not kept
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// Explain adds to an error that a limit has caused what to do next.
func (l Limits) Explain(err error) error {
	switch {
	case errors.As(err, new(*LockedError)):
		return fmt.Errorf("%w (another transaction has kept what this one needs for more than %s)", err, l.Lock)
	case IsLockTimeout(err):
		return fmt.Errorf("%w: another transaction has kept what this one needs for more than %s, and nothing was changed; `headgate doctor --open-for %s` names the oldest that is open, to a login that may see others' (pg_read_all_stats): end it, then try again", err, l.Lock, l.Lock)
	case HasCode(err, "25P03"):
		return fmt.Errorf("%w: this process did nothing for more than %s in the middle of a transaction, and nothing was changed: it was stopped, or has too little CPU; try again", err, l.Idle)
	case errors.Is(err, syscall.EPIPE): // the server's word cannot be read any more; a COMMIT has not reached it
		return fmt.Errorf("%w: the server had ended this session in the middle of a transaction, and nothing was changed: this process did nothing for more than %s, because it was stopped or has too little CPU, or somebody has ended the session; try again", err, l.Idle)
	}
	return err
}

// IsLockTimeout reports that a lock was waited for in vain.
func IsLockTimeout(err error) bool { return HasCode(err, "55P03") }

// HasCode reports that Postgres answered with this SQLSTATE.
func HasCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

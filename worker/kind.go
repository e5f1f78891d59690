package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// kind is one registered kind: its name, its settings and how one attempt at it
// is made. bind gets the arguments still as JSON, so that a kind is the same
// type whatever its arguments.
type kind struct {
	name string
	opts jobs.KindOpts
	form form
	like jobs.Args // some value of its arguments

	// bind reads the arguments, and returns the handler on them.
	bind func(info jobs.Info, args []byte) (run func(ctx context.Context, work work) error, err error)

	// verify is set in verifiable kinds only.
	verify func(ctx context.Context, conn *pgx.Conn, info jobs.Info, args []byte) (bool, error)

	wrong error // why it is no kind, whatever its settings
}

// form is how a kind's handler meets the database.
type form int

const (
	inTx form = iota
	readOnly
	onConn
	noConn
	settles // Headgate's own: it settles another job (settle.go)
)

// keepsLedger says that work of this kind is written into the tenant's ledger.
func (k *kind) keepsLedger() bool { return k.form == inTx || k.form == onConn }

// work is what an attempt hands to the handler: one of the two is set.
type work struct {
	tx   pgx.Tx
	conn *pgx.Conn
}

// InTx registers a kind whose work is done in one transaction of the tenant's
// database, exactly once. Register all kinds before Start; a kind registered
// twice, or with settings that make no sense, is an error of Start.
func InTx[A jobs.Args](w *Worker, handler jobs.TxHandler[A]) { register(w, inTx, txRun(handler)) }

// ReadOnly registers a kind that only reads the tenant's database: its
// transaction is READ ONLY and leaves no ledger row. What it makes elsewhere, it
// makes under a name that comes from the job's UID, since it may run again.
func ReadOnly[A jobs.Args](w *Worker, handler jobs.TxHandler[A]) {
	register(w, readOnly, txRun(handler))
}

// OnConn registers a kind that works on a connection of its own, outside a
// transaction, and whose KindOpts.Idempotence says what an attempt may do that
// finds an earlier one begun and not ended.
func OnConn[A jobs.Args](w *Worker, handler jobs.ConnHandler[A]) {
	register(w, onConn, connRun(handler))
}

// NoConn registers a kind that needs no connection to the tenant's database: the
// tenant is resolved, suspended or moving tenants' jobs wait, and no database is
// opened. It leaves no ledger row, so it may run again after a crash.
func NoConn[A jobs.Args](w *Worker, handler jobs.Handler[A]) {
	var run handling[A]
	if handler != nil {
		run = func(ctx context.Context, _ work, job *jobs.Job[A]) error { return handler(ctx, job) }
	}
	register(w, noConn, run)
}

// OnConnVerified is OnConn for a kind that declares itself verifiable.
func OnConnVerified[A jobs.Args](w *Worker, handler jobs.ConnHandler[A], verify jobs.Verifier[A]) {
	k := newKind(onConn, connRun(handler))
	if verify == nil && k.wrong == nil {
		k.wrong = fmt.Errorf("kind %s is registered without a verifier: give the function that looks whether its work was done", k.name)
	}
	k.verify = func(ctx context.Context, conn *pgx.Conn, info jobs.Info, args []byte) (bool, error) {
		job, err := decode[A](info, args, k.opts.StrictArgs)
		if err != nil {
			return false, err
		}
		return verify(ctx, conn, job)
	}
	w.add(k)
}

// handling is a kind's handler in one form for all; nil where there is none.
type handling[A jobs.Args] func(context.Context, work, *jobs.Job[A]) error

func connRun[A jobs.Args](handler jobs.ConnHandler[A]) handling[A] {
	if handler == nil {
		return nil
	}
	return func(ctx context.Context, work work, job *jobs.Job[A]) error { return handler(ctx, work.conn, job) }
}

func txRun[A jobs.Args](handler jobs.TxHandler[A]) handling[A] {
	if handler == nil {
		return nil
	}
	return func(ctx context.Context, work work, job *jobs.Job[A]) error { return handler(ctx, work.tx, job) }
}

func register[A jobs.Args](w *Worker, f form, handler handling[A]) { w.add(newKind(f, handler)) }

func newKind[A jobs.Args](f form, handler handling[A]) *kind {
	like, err := anyOf[A]()
	if err != nil {
		return &kind{wrong: err}
	}
	if handler == nil {
		err = fmt.Errorf("kind %s is registered without a handler: give the function that does its work", like.Kind())
	}
	opts := jobs.KindOptsOf(like)
	return &kind{
		name: like.Kind(), opts: opts, form: f, like: like, wrong: err,
		bind: func(info jobs.Info, args []byte) (func(context.Context, work) error, error) {
			job, err := decode[A](info, args, opts.StrictArgs)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context, work work) error { return handler(ctx, work, job) }, nil
		},
	}
}

// anyOf is some value of a kind's arguments, to ask for its name and settings.
func anyOf[A jobs.Args]() (jobs.Args, error) {
	switch t := reflect.TypeFor[A](); t.Kind() {
	case reflect.Interface:
		return nil, fmt.Errorf("a kind is registered with %s, which is no kind's own type: let its handler take the struct of its arguments", t)
	case reflect.Pointer:
		return reflect.New(t.Elem()).Interface().(jobs.Args), nil //nolint:forcetypeassert // it is an A
	}
	var zero A
	return zero, nil
}

func decode[A jobs.Args](info jobs.Info, args []byte, strict bool) (*jobs.Job[A], error) {
	job := &jobs.Job[A]{Info: info}
	if err := wire.DecodeArgs(args, &job.Args, strict); err != nil {
		return nil, &badArgsError{kind: info.Kind, err: err}
	}
	return job, nil
}

// badArgsError says that stored arguments do not fit the kind's struct.
type badArgsError struct {
	kind string
	err  error
}

func (e *badArgsError) Error() string {
	return fmt.Sprintf("the stored arguments (column args of its row) do not fit kind %s: %v", e.kind, e.err)
}

func (e *badArgsError) Unwrap() error { return e.err }

// class tells what no later version of the kind is meant to take from what one may.
func (e *badArgsError) class() jobs.Class {
	if unknown := (*wire.UnknownFieldError)(nil); errors.As(e.err, &unknown) {
		return classBadRow
	}
	return jobs.ClassBadArgs
}

// check says what is wrong with a kind's declaration.
func (k *kind) check() error {
	if k.wrong != nil {
		return k.wrong
	}
	if err := jobs.CheckKind(k.name); err != nil {
		return err
	}
	switch {
	case k.opts.Timeout < 0 || k.opts.IdleTimeout < 0:
		return fmt.Errorf("kind %s: its timeouts may not be negative", k.name)
	case k.opts.Login == jobs.LoginOwner && k.form == noConn:
		return fmt.Errorf("kind %s needs no connection, and so no owner's login: leave KindOpts.Login out", k.name)
	case k.opts.Scope == jobs.ScopeTenant && k.opts.Login == jobs.LoginOwner && k.form != onConn:
		return fmt.Errorf("kind %s: the owner's login sees every tenant of a shared database; use it for scope database only", k.name)
	case k.opts.Scope == jobs.ScopeDatabase && k.opts.Login == jobs.LoginJob && k.form != noConn:
		return fmt.Errorf("kind %s: work on a whole database needs the owner's login (KindOpts.Login)", k.name)
	case k.form == onConn && (k.opts.Idempotence <= jobs.Undeclared || k.opts.Idempotence > jobs.Unsafe):
		return fmt.Errorf("kind %s works outside a transaction: declare KindOpts.Idempotence (jobs.Idempotent, Verifiable, Chunked or Unsafe), which says what to do after a crash half way", k.name)
	case k.form != onConn && k.opts.Idempotence != jobs.Undeclared:
		return fmt.Errorf("kind %s works in a transaction: leave KindOpts.Idempotence out, the ledger answers for it", k.name)
	case (k.opts.Idempotence == jobs.Verifiable) != (k.verify != nil):
		return fmt.Errorf("kind %s: a verifiable kind, and no other, is registered with OnConnVerified", k.name)
	case k.opts.ReadFrom < jobs.Primary || k.opts.ReadFrom > jobs.Replica || k.opts.OnLag < jobs.ReadPrimary || k.opts.OnLag > jobs.WaitForReplica:
		return fmt.Errorf("kind %s: its ReadFrom is jobs.Primary or Replica, and its OnLag jobs.ReadPrimary or WaitForReplica", k.name)
	case k.opts.ReadFrom == jobs.Primary && (k.opts.MaxLag != 0 || k.opts.OnLag != jobs.ReadPrimary):
		return fmt.Errorf("kind %s reads from the primary, which has no lag: give it KindOpts.ReadFrom jobs.Replica, or leave MaxLag and OnLag out", k.name)
	case k.opts.ReadFrom == jobs.Replica && k.form != readOnly:
		return fmt.Errorf("kind %s may write: only a kind registered with ReadOnly can read from a replica (KindOpts.ReadFrom)", k.name)
	case k.opts.ReadFrom == jobs.Replica && k.opts.Login == jobs.LoginOwner:
		return fmt.Errorf("kind %s: the read address is the job login's; leave KindOpts.Login out", k.name)
	case k.opts.MaxLag != 0 && k.opts.MaxLag < jobs.MinLag:
		return fmt.Errorf("kind %s: its MaxLag is %s: give %s or more, or 0 for %s", k.name, k.opts.MaxLag, jobs.MinLag, maxLag)
	case k.opts.Optimistic && k.form != inTx:
		return fmt.Errorf("kind %s: only a kind registered with InTx can be optimistic", k.name)
	}
	return k.checkRetryDelay()
}

// idleTimeout bounds how long the kind's transaction may idle.
func (k *kind) idleTimeout() time.Duration { return cmp.Or(k.opts.IdleTimeout, time.Minute) }

// maxLag is how old the rows of a replica may be where the kind does not say.
const maxLag = 10 * time.Second

func (k *kind) maxLag() time.Duration { return cmp.Or(k.opts.MaxLag, maxLag) }

func (k *kind) timeout(byDefault time.Duration) time.Duration {
	if k.opts.Timeout > 0 {
		return k.opts.Timeout
	}
	return byDefault
}

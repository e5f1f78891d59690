package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// kind is one registered kind: its name, its settings and how one attempt at it
// is made. run gets the arguments still as JSON, so that a kind is the same
// type whatever its arguments.
type kind struct {
	name string
	opts jobs.KindOpts
	form form
	run  func(ctx context.Context, work work, info jobs.Info, args []byte) error
}

// form is how a kind's handler meets the database.
type form int

const (
	inTx form = iota
	readOnly
	onConn
)

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
// transaction. It may run again after a crash and must bear that.
func OnConn[A jobs.Args](w *Worker, handler jobs.ConnHandler[A]) {
	register(w, onConn, func(ctx context.Context, work work, job *jobs.Job[A]) error { return handler(ctx, work.conn, job) })
}

func txRun[A jobs.Args](handler jobs.TxHandler[A]) func(context.Context, work, *jobs.Job[A]) error {
	return func(ctx context.Context, work work, job *jobs.Job[A]) error { return handler(ctx, work.tx, job) }
}

func register[A jobs.Args](w *Worker, f form, handler func(context.Context, work, *jobs.Job[A]) error) {
	var zero A
	w.add(&kind{
		name: zero.Kind(), opts: jobs.KindOptsOf(zero), form: f,
		run: func(ctx context.Context, work work, info jobs.Info, args []byte) error {
			job := &jobs.Job[A]{Info: info}
			if err := json.Unmarshal(args, &job.Args); err != nil {
				return &badArgsError{kind: info.Kind, err: err}
			}
			return handler(ctx, work, job)
		},
	})
}

// badArgsError says that stored arguments do not fit the kind's struct.
type badArgsError struct {
	kind string
	err  error
}

func (e *badArgsError) Error() string {
	return fmt.Sprintf("the stored arguments do not fit kind %s: %v", e.kind, e.err)
}

func (e *badArgsError) Unwrap() error { return e.err }

var kindName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,127}$`)

// check says what is wrong with a kind's declaration.
func (k *kind) check() error {
	switch {
	case !kindName.MatchString(k.name):
		return fmt.Errorf("kind %q: a kind's name is 1 to 127 letters, digits, dots, dashes or underscores", k.name)
	case k.opts.Timeout < 0 || k.opts.IdleTimeout < 0:
		return fmt.Errorf("kind %s: its timeouts may not be negative", k.name)
	case k.opts.Scope == jobs.ScopeTenant && k.opts.Login == jobs.LoginOwner && k.form != onConn:
		return fmt.Errorf("kind %s: the owner's login sees every tenant of a shared database; use it for scope database only", k.name)
	case k.opts.Scope == jobs.ScopeDatabase && k.opts.Login == jobs.LoginJob:
		return fmt.Errorf("kind %s: work on a whole database needs the owner's login (KindOpts.Login)", k.name)
	}
	return nil
}

func (k *kind) timeout(byDefault time.Duration) time.Duration {
	if k.opts.Timeout > 0 {
		return k.opts.Timeout
	}
	return byDefault
}

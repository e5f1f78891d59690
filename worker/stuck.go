package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// A handler must give up when its context ends. One that does not would keep its
// slot for ever, so its attempt is ended without it: the slot is free again, and
// the job is tried again under the ledger's protection. What the handler still
// does cannot commit, since every statement of its transaction needs the context
// that has ended. Too many such handlers make the process worth replacing.

// ErrStuck is what [Worker.Run] returns when too many handlers ignore the end of
// their context (Config.MaxStuck). The process should end and be started again:
// nothing else gets rid of them.
var ErrStuck = errors.New("too many handlers ignore the end of their context")

// stuckError ends an attempt whose handler went on for too long after its context had ended.
type stuckError struct {
	after time.Duration
	cause error
}

func (e *stuckError) Error() string {
	return fmt.Sprintf("the handler has not returned %s after its context ended (%v): make it watch ctx.Done()", e.after, e.cause)
}

func (e *stuckError) Unwrap() error { return e.cause }

var errExited = errors.New("the handler ended its goroutine (runtime.Goexit)")

// attend makes the attempt and waits for its end, but not for ever for a handler
// that does not return. It returns the attempt to report, which then is not a
// itself, still in the handler's hands, but what was known when that began.
func (a *attempt) attend(ctx context.Context) (*attempt, error) {
	ended := make(chan error, 1)
	a.w.lend(func() {
		err := errExited
		defer func() {
			if v := recover(); v != nil {
				a.trace = string(debug.Stack())
				err = &panicError{value: v}
			}
			ended <- err
		}()
		err = a.make(ctx)
	})
	select {
	case err := <-ended:
		return a, err
	case <-ctx.Done():
	}
	grace := time.NewTimer(a.w.cfg.StuckAfter)
	defer grace.Stop()
	select {
	case err := <-ended:
		return a, err
	case <-grace.C:
	}
	if !a.handling.Load() {
		return a, <-ended // in our own hands, where every wait has its bound
	}
	known := a.known()
	a.w.noteStuck(ctx, known, ended)
	return known, &stuckError{after: a.w.cfg.StuckAfter, cause: context.Cause(ctx)}
}

// lend runs do on a goroutine that has done so before, if one is free: its stack
// has grown already. There are as many as attempts at once; Stop ends them.
func (w *Worker) lend(do func()) {
	select {
	case w.lent <- do:
		return
	default:
	}
	go func() {
		for {
			do()
			select {
			case do = <-w.lent:
			case <-w.over:
				return
			}
		}
	}()
}

// known is the attempt as it was when its handler began, read from its row once more.
func (a *attempt) known() *attempt {
	known := &attempt{w: a.w, kind: a.kind, row: a.row, started: a.started, handling: a.handling, resolved: a.resolved, called: true, open: true}
	_ = known.read() // a did it without an error
	if to := a.resolved.Load(); to != nil {
		known.info.Tenant, known.place, known.info.Database = to.tenant, to.place, to.place.Database
	}
	return known
}

// noteStuck counts a handler that does not return until it does.
func (w *Worker) noteStuck(ctx context.Context, known *attempt, ended <-chan error) {
	n := w.stuck.Add(1)
	w.cfg.Logger.ErrorContext(ctx, "a handler ignores the end of its context; its slot is free again, its goroutine and connection are not",
		"tenant", known.info.Tenant.Slug, "database", known.info.Database, "kind", known.row.Kind, "job_uid", known.meta.UID, "stuck", n, "max_stuck", w.cfg.MaxStuck)
	go func() { // ends with the handler, or with the process
		err := <-ended
		w.stuck.Add(-1)
		w.cfg.Logger.InfoContext(ctx, "a stuck handler has returned", "kind", known.row.Kind, "job_uid", known.meta.UID, "error", err)
	}()
	if int(n) > w.cfg.MaxStuck {
		w.exhaust.Do(func() { close(w.exhausted) })
	}
}

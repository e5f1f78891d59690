package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/headgate/headgate/jobs"
)

// A handler must give up when its context ends. One that does not would keep its
// slot for ever, so its attempt is ended without it: the slot is free again, and
// the job is tried again under the ledger's protection. What the handler still
// does cannot commit, since every statement of its transaction needs the context
// that has ended. Too many such handlers make the process worth replacing.

// ErrStuck is what [Worker.Run] returns when too many handlers ignore the end of
// their context (Config.MaxStuck). The process should end and be started again:
// nothing else gets rid of them.
var ErrStuck = jobs.Sentinel("stuck", "too many handlers ignore the end of their context")

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

// runWithGrace makes the attempt and waits for its end, but not for ever for a handler that
// does not return. Of a handler that does not return, it returns another attempt to report:
// what was known when the handler began, because the handler still uses a.
func (a *attempt) runWithGrace(ctx context.Context) (*attempt, error) {
	ended := make(chan error, 1)
	a.w.onGoroutine(func() {
		err := errExited
		defer func() {
			if v := recover(); v != nil {
				a.stack = string(debug.Stack())
				err = &panicError{value: v}
			}
			ended <- err
		}()
		err = a.run(ctx)
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
		return a, <-ended // in our own code, where every wait has its bound
	}
	known := a.known()
	a.w.noteStuck(ctx, known, ended)
	return known, &stuckError{after: a.w.cfg.StuckAfter, cause: context.Cause(ctx)}
}

// onGoroutine runs do on a goroutine that has run an attempt before, if one is free: its
// stack has grown already. There are as many goroutines as attempts at once; Stop ends
// them.
func (w *Worker) onGoroutine(do func()) {
	select {
	case w.goroutines <- do:
		return
	default:
	}
	closing := w.closing
	go func() {
		for {
			do()
			select {
			case do = <-w.goroutines:
			case <-closing:
				return
			}
		}
	}()
}

// known is the attempt as it was when its handler began, read from its row once more.
func (a *attempt) known() *attempt {
	known := &attempt{w: a.w, kind: a.kind, row: a.row, started: a.started, handling: a.handling, resolved: a.resolved, log: a.log, features: a.features, called: true, open: true, span: a.span}
	_ = known.read() // a did it without an error
	if to := a.resolved.Load(); to != nil {
		known.info.Tenant, known.place, known.info.Database = to.tenant, to.place, to.place.Database
	}
	return known
}

// exhaust tells whoever waits that there are too many stuck handlers.
func (w *Worker) exhaust() {
	w.lifeMu.Lock()
	defer w.lifeMu.Unlock()
	select {
	case <-w.exhausted: // it was told before
	default:
		close(w.exhausted)
	}
}

// noteStuck counts a handler that does not return until it does.
func (w *Worker) noteStuck(ctx context.Context, known *attempt, ended <-chan error) {
	n := w.stuck.Add(1)
	w.cfg.Logger.ErrorContext(ctx, "a handler ignores the end of its context; its slot is free again, its goroutine and connection are not",
		"tenant", known.info.Tenant.Slug, "database", known.info.Database, "kind", known.row.Kind, "job_uid", known.meta.UID, "stuck", n, "max_stuck", w.cfg.MaxStuck)
	go func() { // ends with the handler, or with the process
		err := <-ended
		w.stuck.Add(-1)
		w.cfg.Logger.InfoContext(ctx, "a stuck handler has returned", "kind", known.row.Kind, "job_uid", known.meta.UID, "error", known.text(err))
	}()
	if int(n) > w.cfg.MaxStuck {
		w.exhaust()
	}
}

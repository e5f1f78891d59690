package worker

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/headgate/headgate/jobs"
)

// Middleware is code around every handler of a worker, as in River and net/http. It calls
// next with its ctx, or one derived from it, and returns next's error, or wraps it with %w.
//
// A middleware belongs to the handler. It runs where the handler runs: in the tenant's
// transaction, on the connection that is lent to it, or without either. Therefore:
//
//   - What it returns counts as what the handler returned, and a panic as the handler's. An
//     error rolls back what the handler wrote in its transaction. nil lets the job succeed,
//     also where next returned an error or was not called.
//   - The commit comes after all middleware, so no error of theirs can come after a commit.
//     Config.OnError and the history tell how an attempt has ended.
//   - Its time is the handler's: the timeout of the kind, and the IdleTimeout of the
//     transaction while no statement runs.
//
// No middleware is called in an attempt that does not get as far as its handler: the tenant
// is suspended, its server does not answer, the ledger knows the job as done, a cancelled
// job is settled, or the stored arguments do not fit. A verifier (OnConnVerified) has none
// around it.
//
// next runs the handler once. An attempt whose middleware calls next again fails, because
// the job would have its effect twice. An attempt waits for a next that is still running when
// its middleware has returned.
//
// It is called by many goroutines at once. job.Step and job.Follow work as in the handler.
type Middleware func(ctx context.Context, job jobs.Info, next func(ctx context.Context) error) error

// errNextAgain ends an attempt whose middleware has run, or tried to run, the handler twice.
var errNextAgain = errors.New("a middleware has called next twice, or after it had returned: next runs the handler once in an attempt; " +
	"to try a job again, return the error")

// through runs a handler within the worker's middleware.
func (a *attempt) through(ctx context.Context, handler func(context.Context) error) (err error) {
	all := a.w.cfg.Middleware
	if len(all) == 0 {
		return handler(ctx)
	}
	last := &onlyOnce{handler: handler, ended: make(chan struct{})}
	defer func() {
		var again bool
		if a.passedBy, again = last.close(); again {
			err = errNextAgain
		}
	}()
	next := last.run
	for _, m := range slices.Backward(all) {
		inner := next
		next = func(ctx context.Context) error { return m(ctx, a.info, inner) }
	}
	return next(ctx)
}

// onlyOnce is the handler as the last middleware gets it.
type onlyOnce struct {
	handler func(context.Context) error
	ended   chan struct{} // closed when the handler has returned

	mu                   sync.Mutex
	begun, closed, again bool // guarded by mu
}

func (o *onlyOnce) run(ctx context.Context) error {
	o.mu.Lock()
	if o.begun || o.closed {
		o.again = true
		o.mu.Unlock()
		return errNextAgain
	}
	o.begun = true
	o.mu.Unlock()
	defer close(o.ended)
	return o.handler(ctx)
}

// close waits for a handler that still runs, and lets none begin any more.
func (o *onlyOnce) close() (neverBegun, again bool) {
	o.mu.Lock()
	o.closed = true
	begun := o.begun
	o.mu.Unlock()
	if begun {
		<-o.ended
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return !begun, o.again
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
)

// OnError is told of an attempt that has failed by itself. end is the attempt as the history
// gets it: its class, its error in the same redacted text, the stack of a panic (Trace),
// whether the job is tried again (State Failed) or not (Discarded, Cancelled). job says whose
// it was; its Step, Follow and Result are nil. ctx ends after Config.OnErrorTimeout, and
// carries the tenant and the trace context of the job (telemetry.TraceParent).
//
// Told are errors, panics, timeouts and lost commits of handlers and their middleware,
// errors by which a handler ends its job for good (jobs.Cancel), arguments that do not fit,
// SQL that has escaped, unsafe jobs that wait for a person, and handlers that are stuck.
// Not told are attempts that count as nobody's fault and use none (State Snoozed: a server
// is away, the job has put itself off), jobs that somebody has cancelled, and attempts whose
// worker died (class lost_worker, quarantined): no process has seen these end.
//
// The calls are made beside the jobs, by 4 goroutines. A failure is left out, and the log
// says how many were, while 100 wait for their call. A panic is logged and harms nothing.
// Stop waits for calls that are under way or waiting, for OnErrorTimeout at most. A process
// that dies tells nobody: the history is what is certain.
type OnError func(ctx context.Context, job jobs.Info, end jobs.Outcome)

// Bounds of the calls of OnError in a process.
const (
	errorCalls   = 4
	errorWaiting = 100
)

// failedItself says whether an attempt's end is a failure that OnError is told of.
func (a *attempt) failedItself(d disposition) bool {
	switch d.state {
	case jobs.Failed, jobs.Discarded:
		return true
	case jobs.Cancelled:
		byRequest := a.settling || a.wanted || errors.Is(d.err, errCancelled) || errors.Is(d.err, errCancelledHalfWay)
		return d.class == jobs.ClassUnsafe || !byRequest && d.class != jobs.ClassTombstone
	}
	return false
}

// tell hands a failure over to OnError.
func (a *attempt) tell(ctx context.Context, end disposition, o jobs.Outcome) {
	if a.w.cfg.OnError == nil || !a.failedItself(end) {
		return
	}
	info := a.info
	info.Result, info.Follow, info.Step = nil, nil, nil
	a.w.errorCalls.add(failure{info: info, end: o, trace: telemetry.TraceParent(ctx)})
}

// failure is what one call of OnError is about.
type failure struct {
	info  jobs.Info
	end   jobs.Outcome
	trace string
}

// errorHook calls OnError. Its goroutines live from startErrorHook to stop.
type errorHook struct {
	call    OnError
	timeout time.Duration
	log     *slog.Logger
	leftOut *bounded

	waiting chan failure
	closing chan struct{}
	over    chan struct{} // closed when all goroutines have ended
}

func startErrorHook(call OnError, timeout time.Duration, log *slog.Logger) *errorHook {
	h := &errorHook{
		call: call, timeout: timeout, log: log, waiting: make(chan failure, errorWaiting), closing: make(chan struct{}), over: make(chan struct{}),
		leftOut: newBounded(0, func(n int64) {
			log.Warn("OnError was not told of failures, because it is slower than they come", "left_out", n)
		}),
	}
	if call == nil {
		close(h.over)
		return h
	}
	var goroutines sync.WaitGroup
	for range errorCalls {
		goroutines.Go(h.loop)
	}
	go func() { // ends with them
		goroutines.Wait()
		close(h.over)
	}()
	return h
}

func (h *errorHook) add(f failure) {
	select {
	case h.waiting <- f:
	default:
		h.leftOut.allow()
	}
}

func (h *errorHook) loop() {
	for {
		select {
		case f := <-h.waiting:
			h.tell(f)
			continue
		default:
		}
		select {
		case f := <-h.waiting:
			h.tell(f)
		case <-h.closing:
			return
		}
	}
}

func (h *errorHook) tell(f failure) {
	ctx, cancel := context.WithTimeout(telemetry.WithTraceParent(context.Background(), f.trace), h.timeout)
	defer cancel()
	if f.info.Tenant.ID != "" {
		ctx = jobs.WithTenant(ctx, f.info.Tenant.ID)
	}
	defer func() {
		if v := recover(); v != nil {
			h.log.ErrorContext(ctx, "OnError panicked; the job is not touched by it", "job_uid", f.end.JobUID, "kind", f.end.Kind, "error", fmt.Sprint(v))
		}
	}()
	h.call(ctx, f.info, f.end)
}

// stop waits for the calls that are waiting or under way, but not for ever. All attempts
// have ended before.
func (h *errorHook) stop(ctx context.Context) {
	close(h.closing)
	timer := time.NewTimer(h.timeout)
	defer timer.Stop()
	select {
	case <-h.over:
	case <-timer.C:
		h.log.WarnContext(ctx, "OnError does not return; the worker stops without it", "waiting", len(h.waiting))
	case <-ctx.Done():
	}
	h.leftOut.flush()
}

package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/worker/tenantdb"
)

// disposition is what becomes of a job after an attempt, and why.
type disposition struct {
	state    jobs.State
	class    jobs.Class
	sqlstate string
	wait     time.Duration // for Snoozed
	err      error
	says     string     // err's text, fit to be kept and shown
	held     *jobs.Held // how often in a row that was not the job's own fault
}

// disposition decides, from the attempt's error, whether the job succeeded, is tried again
// (using an attempt only where the fault is its own), or ends. Whatever is written or
// logged of the error is the text that is made here.
func (a *attempt) disposition(ctx context.Context, err error) disposition {
	d := a.decide(ctx, err)
	d.says = clean(a.text(d.err), 8<<10)
	return d
}

func (a *attempt) decide(ctx context.Context, err error) disposition {
	if err == nil {
		return disposition{state: jobs.Succeeded}
	}
	var snooze *jobs.SnoozeError
	var cancel *jobs.CancelError
	var unsettled *unsettledError
	switch {
	case errors.As(err, &unsettled): // not ended, whatever else is true
	case errors.As(err, &snooze):
		return disposition{state: jobs.Snoozed, wait: snooze.For, err: err}
	case errors.As(err, &cancel):
		class := classOf(err)
		if !a.called { // it is not the handler that says so
			err = cancel.Err
		}
		return disposition{state: jobs.Cancelled, class: cmp.Or(publicClass[class], class), err: err}
	case errors.Is(err, errUnsafe):
		return disposition{state: jobs.Cancelled, class: jobs.ClassUnsafe, err: err}
	case a.wanted:
		return disposition{state: jobs.Cancelled, err: errors.New("cancelled while it ran")}
	case errors.Is(context.Cause(ctx), errFenced):
		return disposition{state: jobs.Snoozed, class: jobs.ClassInterrupted, err: errFenced}
	case a.w.stopping.Load() && ctx.Err() != nil:
		return disposition{state: jobs.Snoozed, class: jobs.ClassInterrupted, err: errors.New("the worker was stopped; the job goes on elsewhere")}
	}
	return a.blame(ctx, err, unsettled != nil)
}

// blame is the disposition after an error that is no wish of anybody's. A job that is not
// settled yet, or may be done, waits for its ledger's answer whatever the error is.
func (a *attempt) blame(ctx context.Context, err error, unsettled bool) disposition {
	d, now := disposition{state: jobs.Failed}, time.Now()
	d.class, d.sqlstate = a.classify(ctx, err)
	d.err = a.explained(d.class, err)
	last := a.row.Attempt >= a.row.MaxAttempts
	switch asks := unsettled || last && a.mayBeDone(); {
	case endsForGood[d.class] && !unsettled:
		d.state = jobs.Cancelled
	case asks || notItsFault[d.class]:
		d.held = a.held(d.class, now)
		enough := a.blamed(d.held, now)
		if asks || enough == nil {
			d.state, d.wait = jobs.Snoozed, a.w.holdFor(err, d.held, now)
		} else {
			d.err = fmt.Errorf("%w; %w", d.err, enough)
		}
	}
	if d.state == jobs.Failed && last {
		d.state = jobs.Discarded
	}
	if public, ok := publicClass[d.class]; ok {
		d.class = public
	}
	d.class = cmp.Or(d.class, jobs.ClassJobError)
	return d
}

// notItsFault are the classes that a job cannot help: it waits, and no attempt
// is used (held.go says for how long).
var notItsFault = map[jobs.Class]bool{
	jobs.ClassUnreachable: true, jobs.ClassServerFull: true, jobs.ClassAuthFailed: true, jobs.ClassReadOnly: true,
	jobs.ClassReplica: true, jobs.ClassDiskFull: true, jobs.ClassWrongDatabase: true, jobs.ClassWrongCentre: true, jobs.ClassUnprotected: true, jobs.ClassSchemaNewer: true, jobs.ClassSchemaOlder: true,
	jobs.ClassUndecryptable: true, jobs.ClassTenant: true, jobs.ClassInterrupted: true, jobs.ClassConflict: true, classBusy: true,
	jobs.ClassConnectTimeout: true, jobs.ClassLockTimeout: true, jobs.ClassNotPermitted: true, jobs.ClassOutput: true, jobs.ClassUntrusted: true,
}

// endsForGood are the classes that no further attempt can mend.
var endsForGood = map[jobs.Class]bool{jobs.ClassTombstone: true, jobs.ClassEscaped: true, classGone: true, classBadRow: true}

// Classes that this file alone tells from others; the history calls them by the
// wider word.
const (
	classBusy jobs.Class = "conflict/busy" // another attempt of the same job holds the ledger's key
	classGone jobs.Class = "tenant/gone"   // the tenant or database is not in the catalog any more

	classBadRow jobs.Class = "bad_args/row" // the row itself does not say what the job is
)

var publicClass = map[jobs.Class]jobs.Class{classBusy: jobs.ClassConflict, classGone: jobs.ClassTenant, classBadRow: jobs.ClassBadArgs}

// classOf finds the classes that this package gives, by types that only this
// package makes or, before the handler begins, can meet.
func classOf(err error) jobs.Class {
	var (
		panicked *panicError
		late     *timeoutError
		args     *badArgsError
		odd      *badRowError
		resolve  *resolveError
		escaped  *guard.EscapedError
		stuck    *stuckError
		connect  *tenantdb.ConnectError
		replica  *replicaError
	)
	switch {
	case errors.As(err, &replica): // whatever the cause is, which says nothing about the primary
		return jobs.ClassReplica
	case errors.As(err, &panicked):
		return jobs.ClassPanic
	case errors.As(err, &odd):
		return classBadRow
	case errors.As(err, &args):
		return args.class()
	case errors.As(err, &escaped):
		return jobs.ClassEscaped
	case errors.Is(err, jobs.ErrUnguarded):
		return jobs.ClassUnguarded
	case errors.Is(err, errTombstone):
		return jobs.ClassTombstone
	case errors.Is(err, errBusy):
		return classBusy
	case errors.Is(err, errInterrupted):
		return jobs.ClassInterrupted
	case errors.Is(err, jobs.ErrUnknownTenant), errors.Is(err, jobs.ErrUnknownDatabase), errors.Is(err, jobs.ErrNoTenant):
		return classGone
	case errors.Is(err, jobs.ErrTenantSuspended), errors.Is(err, jobs.ErrTenantMoving), errors.Is(err, jobs.ErrDatabaseDetached), errors.As(err, &resolve):
		return jobs.ClassTenant
	case errors.As(err, &connect):
		return connect.Class
	case errors.As(err, &late), errors.As(err, &stuck):
		return jobs.ClassTimeout
	}
	return ""
}

// toRiver says the disposition in River's words.
func (d disposition) toRiver() error {
	switch d.state {
	case jobs.Succeeded:
		return nil
	case jobs.Snoozed:
		return river.JobSnooze(d.wait)
	case jobs.Cancelled:
		return river.JobCancel(errors.New(d.says))
	default:
		return errors.New(d.says)
	}
}

// panicError is a handler's panic.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.value) }

// timeoutError is the cause of a context whose attempt's time was up.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("the attempt's time was up after %s", e.after)
}

// resolveError is a failure to learn where the job runs.
type resolveError struct{ error }

func (e *resolveError) Unwrap() error { return e.error }

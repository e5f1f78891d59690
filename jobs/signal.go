package jobs

import (
	"fmt"
	"time"
)

// CancelError asks that the job ends now and is never tried again.
type CancelError struct{ Err error }

// Error says why.
func (e *CancelError) Error() string {
	if e.Err == nil {
		return "cancelled by its handler"
	}
	return fmt.Sprintf("cancelled by its handler: %v", e.Err)
}

// Unwrap returns the reason.
func (e *CancelError) Unwrap() error { return e.Err }

// Cancel returns an error by which a handler ends its job for good: its
// transaction is rolled back, no further attempt is made, and the outcome says
// cancelled with err as the reason.
func Cancel(err error) error { return &CancelError{Err: err} }

// ErrUnguarded: a statement would reach rows of other tenants, and nothing in the
// database keeps it from them. With [Cancel] it ends a job with class unguarded.
var ErrUnguarded = Sentinel("unguarded", "nothing keeps tenants' rows apart")

// SnoozeError asks that the job is run again later.
type SnoozeError struct{ For time.Duration }

// Error says for how long.
func (e *SnoozeError) Error() string { return fmt.Sprintf("snoozed for %s", e.For) }

// Snooze returns an error by which a handler puts its job off for d (0 means as
// soon as possible). Its transaction is rolled back and no attempt is used.
func Snooze(d time.Duration) error { return &SnoozeError{For: max(d, 0)} }

// OutputError says that a file that the job makes could not be written where the
// worker keeps such files: its disk is full, say. A handler that returns one is
// run again later and uses no attempt, within Config.UnblamedMost and
// UnblamedFor of the worker.
type OutputError struct{ Err error }

// Error says why.
func (e *OutputError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *OutputError) Unwrap() error { return e.Err }

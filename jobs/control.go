package jobs

import (
	"fmt"
	"time"
)

// CancelOpts says who cancels a job and why. Both are kept with the job and in
// its history, cut at 200 and 500 bytes.
type CancelOpts struct {
	Actor  string // up to 200 characters
	Reason string // up to 500 characters
}

// CancelResult says how far a cancellation has come.
type CancelResult struct {
	UID string `json:"uid"`

	// State is Cancelled, or Cancelling while an attempt at the job is open, or
	// may be: what has become of it is not known yet.
	State State `json:"state"`

	// RequestedAt is when it was first asked for, by the database's clock.
	RequestedAt time.Time `json:"requested_at"`

	// Tombstone is the UID of the job that makes sure, in the tenant's own
	// database, that a worker out of reach has no effect any more. "" if no such
	// job is needed.
	Tombstone string `json:"tombstone,omitempty"`
}

// TombstoneAfter is how long a job may be cancelling before a tombstone is enqueued
// for it.
const TombstoneAfter = time.Minute

// ErrRetryRefused: the job cannot be tried again, or not under this UID. The
// error's sentence says why and what can be done.
var ErrRetryRefused = Sentinel("retry_refused", "job is not retried")

// RetryResult names a job that waits for a worker again.
type RetryResult struct {
	UID         string `json:"uid"`
	Was         State  `json:"was"` // its state before
	Attempt     int    `json:"attempt"`
	MaxAttempts int    `json:"max_attempts"` // one more than before if they were used up
}

// ErrJobFinished: the job has ended for good. The error is a *JobFinishedError.
var ErrJobFinished = Sentinel("job_finished", "job is finished")

// JobFinishedError says how a job ended.
type JobFinishedError struct {
	UID   string
	State State     // Succeeded, Cancelled or Discarded
	At    time.Time // Infinity if its row says so
	Gone  bool      // its row, and with it the arguments, has left the queue
}

// Error says how and when.
func (e *JobFinishedError) Error() string {
	text := fmt.Sprintf("job %s %s since %s", e.UID, e.State.Phrase(), Time{Time: e.At}.UTC().Format(time.RFC3339))
	if e.Gone {
		text += ", and its row has left the queue"
	}
	return text
}

// Is makes the error match ErrJobFinished.
func (e *JobFinishedError) Is(target error) bool { return target == ErrJobFinished }

// Code is the code of ErrJobFinished.
func (e *JobFinishedError) Code() string { return CodeOf(ErrJobFinished) }

package orchestrator

import "github.com/headgate/headgate/orchestrator/internal/queue"

// What a Client is asked for and answers about jobs.
type (
	// EnqueueOpts are the choices for one job.
	EnqueueOpts = queue.EnqueueOpts

	// EnqueueParams is one job of EnqueueMany.
	EnqueueParams = queue.EnqueueParams

	// EnqueueResult names an accepted job.
	EnqueueResult = queue.EnqueueResult

	// EnqueueStatus says what a request came to.
	EnqueueStatus = queue.EnqueueStatus

	// Job is a job as the central database knows it.
	Job = queue.Job

	// JobFilter selects jobs, newest first, a page at a time.
	JobFilter = queue.JobFilter

	// CancelOpts says who cancels a job and why.
	CancelOpts = queue.CancelOpts

	// CancelResult says how far a cancellation has come.
	CancelResult = queue.CancelResult

	// RetryResult names a job that waits for a worker again.
	RetryResult = queue.RetryResult
)

// The results of one request. Without an idempotency key all are new.
const (
	StatusNew      = queue.StatusNew      // accepted; UID is its own
	StatusSame     = queue.StatusSame     // accepted before under this key; UID is that job's
	StatusConflict = queue.StatusConflict // not accepted; UID is the job that has the key (EnqueueMany only)
)

// MaxEnqueueMany bounds one EnqueueMany.
const MaxEnqueueMany = queue.MaxEnqueueMany

// IdempotencyRetention is how long a key is kept at least: from the request, and for
// as long as its job has not ended. Under an older one a new job is accepted.
const IdempotencyRetention = queue.IdempotencyRetention

// TombstoneAfter is how long a job may be cancelling before a tombstone is enqueued
// for it.
const TombstoneAfter = queue.TombstoneAfter

// The errors of requests and of questions about one job.
var (
	// ErrUnknownJob: there is no such job, or not any more.
	ErrUnknownJob = queue.ErrUnknownJob

	// ErrJobFinished: the job has ended for good. The error is a *JobFinishedError.
	ErrJobFinished = queue.ErrJobFinished

	// ErrRetryRefused: the job cannot be tried again, or not under this UID. The
	// error's sentence says why and what can be done.
	ErrRetryRefused = queue.ErrRetryRefused

	// ErrIdempotencyConflict: the idempotency key was used for a request with another
	// kind or other arguments. The error is an *IdempotencyConflictError.
	ErrIdempotencyConflict = queue.ErrIdempotencyConflict
)

type (
	// JobFinishedError says how a job ended.
	JobFinishedError = queue.JobFinishedError

	// IdempotencyConflictError says whose key it is and what is not the same.
	IdempotencyConflictError = queue.IdempotencyConflictError
)

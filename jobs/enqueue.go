package jobs

import (
	"fmt"
	"time"
)

// EnqueueOpts are the choices for one job. nil, or the zero value of a field,
// means the kind's own setting (KindOpts), then the default given here.
type EnqueueOpts struct {
	// RunAt is the earliest time to run, at most ten years ahead. A time more
	// than a minute past is taken for a mistake unless AllowPast. Default: now.
	RunAt     time.Time
	AllowPast bool

	// Priority orders jobs of one queue: 1 (first, the default) to 4.
	Priority int

	// Queue is the queue's name. Default "default".
	Queue string

	// Tags are at most 16 labels of 3 to 64 letters, digits, dashes and
	// underscores, no dash first or last.
	Tags []string

	// MaxAttempts is how often the job is tried, 1 to 1000. Default 25.
	MaxAttempts int

	// Timeout bounds one attempt, 1 s to 24 h. Default: the worker's.
	Timeout time.Duration

	// Brand limits the job to one brand of its tenant (its brand_id, 0 to 9999): in the
	// tenant's database headgate.current_brand() is that, and tables that are protected by
	// brand show its rows only. A brand that the tenant does not have is ErrUnknownBrand.
	// Default: all brands.
	Brand *int

	// IdempotencyKey makes it harmless to repeat a request whose answer was
	// lost: 1 to 200 printable characters, kept for IdempotencyRetention, for
	// each tenant (or database) its own. Under a key that is taken nothing is
	// inserted. The same kind, brand and arguments are answered with the first job,
	// whatever became of it and whatever the other options say; others with an
	// *IdempotencyConflictError. While another transaction is taking the key the
	// call waits for that one's end, 8 seconds at most unless it is a Tx form.
	// Default: none.
	IdempotencyKey string
}

// EnqueueResult names an accepted job.
type EnqueueResult struct {
	UID     string        `json:"uid"`                // for ever; what to keep
	Status  EnqueueStatus `json:"result"`             // whether the job is this call's own
	Differs string        `json:"differs,omitempty"`  // in a conflict: "kind", "brand", "args.NAME" or "args"
	RerunOf string        `json:"rerun_of,omitempty"` // UID of the job that this one repeats
}

// EnqueueStatus says what a request came to.
type EnqueueStatus string

// The results of one request. Without an idempotency key all are new.
const (
	StatusNew      EnqueueStatus = "new"      // accepted; UID is its own
	StatusSame     EnqueueStatus = "same"     // accepted before under this key; UID is that job's
	StatusConflict EnqueueStatus = "conflict" // not accepted; UID is the job that has the key (EnqueueMany only)
)

// EnqueueParams is one job of EnqueueMany: for a Tenant or for a Database,
// according to the kind's scope.
type EnqueueParams struct {
	Tenant   string // slug, UUID or org_id; "" means the context's
	Database string // for a kind of scope database
	Args     Args
	Opts     *EnqueueOpts
}

// MaxEnqueueMany bounds one EnqueueMany.
const MaxEnqueueMany = 100_000

// IdempotencyRetention is how long a key is kept at least: from the request, and for
// as long as its job has not ended. Under an older one a new job is accepted.
const IdempotencyRetention = 30 * 24 * time.Hour

// ErrIdempotencyConflict: the idempotency key was used for a request with
// another kind or other arguments. The error is an *IdempotencyConflictError.
var ErrIdempotencyConflict = Sentinel("idempotency_conflict", "idempotency key is taken")

// IdempotencyConflictError says whose key it is and what is not the same.
type IdempotencyConflictError struct {
	Key      string
	FirstUID string // the job that was accepted under the key
	Field    string // "kind", "brand", "args.NAME", or "args" if it cannot be said better
}

// Error names the first job and the field.
func (e *IdempotencyConflictError) Error() string {
	return fmt.Sprintf("%v: job %s was enqueued under key %q and differs in %s; send what was sent then, or use another key",
		ErrIdempotencyConflict, e.FirstUID, e.Key, e.Field)
}

// Is makes the error match ErrIdempotencyConflict.
func (e *IdempotencyConflictError) Is(target error) bool { return target == ErrIdempotencyConflict }

// Code is the code of ErrIdempotencyConflict.
func (e *IdempotencyConflictError) Code() string { return CodeOf(ErrIdempotencyConflict) }

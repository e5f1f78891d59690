package jobs

import (
	"context"
	"time"
)

// Meta is what Headgate writes into the metadata of a queued row. Any client of
// the queue may insert a job for Headgate's workers by writing these keys; a
// row without job_uid is given one from its id (UIDOfRow). UUIDs are in lower case, with
// hyphens. A row that writes something else here ends as bad_args.
type Meta struct {
	UID         string         `json:"job_uid"`
	Tenant      string         `json:"tenant,omitempty"`     // UUID; for scope tenant
	Database    string         `json:"database,omitempty"`   // UUID; for scope database
	TimeoutMS   int64          `json:"timeout_ms,omitempty"` // of one attempt, instead of the kind's
	Schedule    string         `json:"schedule,omitempty"`
	Nominal     *time.Time     `json:"nominal,omitempty"`
	Effective   *time.Time     `json:"effective,omitempty"`   // Nominal and the delay of the schedule's spread
	Parent      string         `json:"parent,omitempty"`      // UID of the job whose handler asked for this one
	RerunOf     string         `json:"rerun_of,omitempty"`    // UID of the job that this one repeats
	TraceParent string         `json:"traceparent,omitempty"` // W3C trace context of the enqueuer
	Cancel      *CancelRequest `json:"cancel_request,omitempty"`
	Tombstone   string         `json:"tombstone_uid,omitempty"` // UID of the job that stops this one in its ledger; its own if it did so itself
	Held        *Held          `json:"held,omitempty"`

	// OpenSince is when the oldest attempt began of which nobody knows whether it
	// has had, or will have, the job's effect: in seconds since 1970, by the central
	// database's clock. 0: there is none. It moves on when a later attempt finds in
	// the ledger that nothing had happened by then.
	OpenSince int64 `json:"open_since,omitempty"`
}

// Held counts the attempts in a row that ended for a reason that is not the
// job's own, and used none. An attempt that ends otherwise takes it away.
type Held struct {
	Class Class     `json:"class"` // of the last of them
	Since time.Time `json:"since"` // the end of the first in a row of that class
	Times int       `json:"times"` // how many in a row of that class

	// BegunSince and Begun are the same for those whose handler had begun, of
	// whatever class: after Config.UnblamedMost of them attempts are used.
	BegunSince time.Time `json:"begun_since,omitzero"`
	Begun      int       `json:"begun,omitempty"`
}

// CancelRequest says that somebody wants a job to end, and who.
type CancelRequest struct {
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"` // by the central database's clock
}

// String is the request as the message of an outcome.
func (r CancelRequest) String() string {
	text := "cancelled"
	if r.By != "" {
		text += " by " + r.By
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

type traceKey struct{}

// WithTraceParent returns a context that carries a W3C traceparent. Jobs
// enqueued under it continue that trace; a handler's context carries its job's.
func WithTraceParent(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// TraceParentFrom returns the traceparent that ctx carries, or "".
func TraceParentFrom(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceKey{}).(string)
	return traceparent
}

package wire

import (
	"time"

	"github.com/headgate/headgate/jobs"
)

// Meta is what Headgate writes into the metadata of a queued row. Any client of
// the queue may insert a job for Headgate's workers by writing these keys; a
// row without job_uid is given one from its id (UIDOfRow). UUIDs are in lower case, with
// hyphens. A row that writes something else here ends as bad_args.
type Meta struct {
	UID         string              `json:"job_uid"`
	Tenant      string              `json:"tenant,omitempty"`     // UUID; for scope tenant
	Database    string              `json:"database,omitempty"`   // UUID; for scope database
	Brand       *int                `json:"brand,omitempty"`      // of the tenant's, 0 to 9999; nil: all
	TimeoutMS   int64               `json:"timeout_ms,omitempty"` // of one attempt, instead of the kind's
	Schedule    string              `json:"schedule,omitempty"`
	Nominal     *time.Time          `json:"nominal,omitempty"`
	Effective   *time.Time          `json:"effective,omitempty"`   // Nominal and the delay of the schedule's spread
	Parent      string              `json:"parent,omitempty"`      // UID of the job whose handler asked for this one
	RerunOf     string              `json:"rerun_of,omitempty"`    // UID of the job that this one repeats
	TraceParent string              `json:"traceparent,omitempty"` // W3C trace context of the enqueuer
	TracedAs    string              `json:"traced_as,omitempty"`   // that of its last attempt that was traced
	Cancel      *jobs.CancelRequest `json:"cancel_request,omitempty"`
	Tombstone   string              `json:"tombstone_uid,omitempty"` // UID of the job that stops this one in its ledger; its own if it did so itself
	Held        *jobs.Held          `json:"held,omitempty"`

	// OpenSince is when the oldest attempt began of which nobody knows whether it
	// has had, or will have, the job's effect: in seconds since 1970, by the central
	// database's clock. 0: there is none. It moves on when a later attempt finds in
	// the ledger that nothing had happened by then.
	OpenSince int64 `json:"open_since,omitempty"`
}

package jobs

import (
	"encoding/json"
	"time"
)

// Record is a job as the central database knows it: its row in the queue, and what
// is known of its attempts. Rows are written by anybody: their times may be infinite.
type Record struct {
	UID         string          `json:"uid"`
	Kind        string          `json:"kind"`
	State       State           `json:"state"`
	Tenant      string          `json:"tenant,omitempty"`   // slug
	Database    string          `json:"database,omitempty"` // name; where the tenant's rows live now
	Brand       *int            `json:"brand,omitempty"`    // of the tenant's; nil: all, or not known of a job that is Gone
	Queue       string          `json:"queue"`
	Priority    int             `json:"priority"`
	Attempt     int             `json:"attempt"`
	MaxAttempts int             `json:"max_attempts"`
	Schedule    string          `json:"schedule,omitempty"`
	Args        json.RawMessage `json:"args"`
	Tags        []string        `json:"tags"`
	EnqueuedAt  Time            `json:"enqueued_at"`
	ScheduledAt Time            `json:"scheduled_at"`
	FinishedAt  *Time           `json:"finished_at"`
	RerunOf     string          `json:"rerun_of,omitempty"` // UID of the job that this one repeats

	Cancel    *CancelRequest `json:"cancel,omitempty"`    // who wanted it cancelled
	Tombstone string         `json:"tombstone,omitempty"` // UID of the job that stops this one in its ledger
	Held      *Held          `json:"held,omitempty"`      // why attempts in a row used none, since when and how many

	// Gone says that the row has left the queue: the job is known by its attempts, and
	// what they do not tell is not known.
	Gone bool `json:"gone,omitempty"`

	Attempts []Outcome `json:"attempts,omitempty"`         // the last 100 that have ended, oldest first; none in a list
	Earlier  bool      `json:"earlier_attempts,omitempty"` // there are attempts before those: orchestrator.Client.Attempts pages through all
}

// Unended counts jobs of a tenant that have not ended.
type Unended struct {
	Waiting   int `json:"waiting_jobs"`   // for a worker
	Scheduled int `json:"scheduled_jobs"` // for a time, also to be tried again
	Running   int `json:"running_jobs"`
}

// Last is the last attempt of those that Attempts holds; nil if there is none.
func (r *Record) Last() *Outcome {
	if len(r.Attempts) == 0 {
		return nil
	}
	return &r.Attempts[len(r.Attempts)-1]
}

// LogLine is a line that a handler has logged (Info.Log) and that is kept with its job.
type LogLine struct {
	Attempt int             `json:"attempt"`
	At      time.Time       `json:"at"`
	Level   string          `json:"level"` // as slog writes it: INFO, WARN, ERROR+2
	Message string          `json:"message"`
	TraceID string          `json:"trace_id,omitempty"`
	Attrs   json.RawMessage `json:"attrs,omitempty"` // an object; groups are objects in it
}

// JobFilter selects jobs, newest first or oldest first, a page at a time. A job that is
// Cancelling is found under the state that its row is in, Running or Waiting, too.
type JobFilter struct {
	State  State // "" means all; Snoozed those that are Scheduled
	Kind   string
	Tenant string // slug, UUID or org_id

	// Select is an expression that selects tenants, as package orchestrator/selector reads
	// it: only jobs of tenants that it selects when the page is read, archived ones included.
	// "" means all.
	Select string

	// Oldest has the job first that was enqueued first. A page's After belongs to its order:
	// the other order refuses it.
	Oldest bool

	Page // Limit is 50, at most 1,000
}

// ErrUnknownJob: there is no such job, or not any more.
var ErrUnknownJob = Sentinel("unknown_job", "unknown job")

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

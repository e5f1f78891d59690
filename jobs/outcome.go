package jobs

import (
	"encoding/json"
	"time"
)

// Outcome is the record of one ended attempt, as it stands in the history.
type Outcome struct {
	ID         string    `json:"id"` // UUIDv7 of the attempt, minted by the worker
	JobUID     string    `json:"job_uid"`
	TenantID   string    `json:"tenant_id,omitempty"`   // "" for a job of scope database
	DatabaseID string    `json:"database_id,omitempty"` // "" if it never got that far
	Kind       string    `json:"kind"`
	Attempt    int       `json:"attempt"`
	State      State     `json:"state"`
	Class      Class     `json:"class,omitempty"`    // "" when it succeeded
	SQLState   string    `json:"sqlstate,omitempty"` // Postgres error code, if there was one
	Message    string    `json:"message,omitempty"`  // one sentence, no secret
	Trace      string    `json:"trace,omitempty"`    // the stack, if the handler panicked
	Recovered  bool      `json:"recovered,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	EndedAt    time.Time `json:"ended_at"`
	Result     Result    `json:"result"`
	Schedule   string    `json:"schedule,omitempty"`
	Worker     string    `json:"worker,omitempty"` // the River client that ran it

	// Features are those that the handler has asked for (Tenant.Feature), as an object of
	// names and the values that it got; null was absent. At most 32, and no long text. nil:
	// none.
	Features json.RawMessage `json:"features,omitempty"`
}

// Class says whose fault a failed attempt was, in one word that alerts and
// filters can use.
type Class string

// The classes; docs/concepts.md says which of them use an attempt.
const (
	ClassJobError         Class = "job_error"         // the handler returned an error
	ClassPanic            Class = "panic"             // the handler panicked
	ClassTimeout          Class = "timeout"           // the attempt's time was up
	ClassConnectTimeout   Class = "connect_timeout"   // ... or a shorter one, before its handler began
	ClassStatementTimeout Class = "statement_timeout" // a statement's time was up, or it was cancelled by hand
	ClassLockTimeout      Class = "lock_timeout"      // a statement waited too long for a lock
	ClassConflict         Class = "conflict"          // serialisation failure, deadlock, or another attempt holds the key
	ClassUnreachable      Class = "unreachable"       // the tenant's server does not answer
	ClassServerFull       Class = "server_full"       // the server has no free connection
	ClassAuthFailed       Class = "auth_failed"       // the server refuses the login
	ClassReadOnly         Class = "read_only"         // the server takes no writes
	ClassReplica          Class = "replica"           // the replica lags, is away or is none any more, and the kind waits for it
	ClassDiskFull         Class = "disk_full"         // the server's disk is full
	ClassWrongDatabase    Class = "wrong_database"    // the address leads to another database than the catalog says
	ClassWrongCentre      Class = "wrong_centre"      // the database belongs to another central database than this one
	ClassUnprotected      Class = "unprotected"       // the shared database does not keep its tenants apart
	ClassSchemaNewer      Class = "schema_newer"      // the database's Headgate schema is newer than this program
	ClassSchemaOlder      Class = "schema_older"      // ... or older than this program can use
	ClassUndecryptable    Class = "undecryptable"     // the sealed address cannot be opened
	ClassUntrusted        Class = "untrusted"         // the worker cannot verify the server's certificate
	ClassNotPermitted     Class = "not_permitted"     // the login lacks a privilege in the tenant's database
	ClassOutput           Class = "output"            // a file that the job makes cannot be written (OutputError)
	ClassTenant           Class = "tenant"            // the tenant is unknown, suspended or being moved, or its database is detached
	ClassBadArgs          Class = "bad_args"          // the stored arguments do not fit the kind
	ClassTombstone        Class = "tombstone"         // the job was cancelled in the tenant's ledger
	ClassInterrupted      Class = "interrupted"       // the worker stopped or lost its connection before the end
	ClassEscaped          Class = "escaped"           // the job's own SQL ended its transaction or changed its context
	ClassUnguarded        Class = "unguarded"         // the table that it would delete from does not keep tenants apart
	ClassUnsafe           Class = "unsafe"            // an unsafe kind began, and nobody knows whether it ended
	ClassLostWorker       Class = "lost_worker"       // the worker died; another goes on
	ClassQuarantined      Class = "quarantined"       // the worker died three times while this job alone was under suspicion
)

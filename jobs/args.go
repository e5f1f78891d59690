package jobs

import "time"

// Args are the arguments of one kind of job: a struct that marshals to JSON.
// Kind names the kind in the queue, in logs and on the command line; it must be
// constant, unique in a program, and a name that CheckKind takes: 2 to 127 letters,
// digits, and some signs, a letter, digit or underscore first. Changing it
// orphans the jobs already enqueued.
//
// Arguments travel through the central database as plain JSON: never put a
// password or a document in them; put a reference.
type Args interface {
	Kind() string
}

// WithKindOpts is implemented by Args whose kind needs other settings than the
// defaults. Both halves read it: the client for the queue, the priority and the
// attempts, the worker for the rest.
type WithKindOpts interface {
	KindOpts() KindOpts
}

// WithCheck is implemented by Args that can tell values which no attempt could work
// with: a name that is none, a field that is missing. Check is asked wherever arguments
// are taken in: by the client that enqueues a job, makes or changes a schedule or a
// schedule file's plan, and by Info.Follow. What it refuses is not stored.
//
// Its error is one sentence that begins with the field as JSON calls it, and says what
// is allowed. It judges the values alone: no database, no clock, no secret repeated.
// A worker does not ask again: a row that another client of the queue has written
// reaches the handler as it is.
type WithCheck interface {
	Check() error
}

// MaxRetryDelay bounds how long a kind's job waits for its next attempt: less than the
// tenant's ledger remembers.
const MaxRetryDelay = 28 * 24 * time.Hour

// WithRetryDelay is implemented by Args whose kind waits otherwise between attempts than
// Config.RetryDelay of the worker says. RetryDelay is how long a job waits after its nth
// failed attempt, 0 to MaxRetryDelay. The worker asks some value of the arguments: the
// answer goes by the attempt alone, and may have jitter. A kind whose answers for its first
// attempts are out of bounds is refused at Start; later answers are cut to the bounds. It is
// called by many goroutines at once.
type WithRetryDelay interface {
	RetryDelay(attempt int) time.Duration
}

// KindOpts are the settings of one kind. The zero value is the default of each.
type KindOpts struct {
	// Scope says what one job of this kind is about. Default ScopeTenant.
	Scope Scope

	// Login is the database role that the job runs as. Default LoginJob.
	Login Login

	// Timeout bounds one attempt, connecting included. 0 means the worker's
	// default (Config.JobTimeout, 5 minutes); it may not be negative.
	Timeout time.Duration

	// IdleTimeout is how long the job's transaction may sit idle between two
	// statements before the tenant's server ends it. It bounds how long a
	// frozen worker can hold locks there. 0 means 60 seconds.
	IdleTimeout time.Duration

	// MaxAttempts is how often the job is tried before it is discarded.
	// 0 means 25 with backoff, which spreads over some three weeks.
	MaxAttempts int

	// Queue is the queue that jobs of this kind go to. "" means "default".
	Queue string

	// Idempotence says of a kind that works outside a transaction what an
	// attempt may do that finds an earlier one begun and not ended. Such a kind
	// must declare it; others must not.
	Idempotence Idempotence

	// Optimistic is for kinds in a transaction that read for long before they
	// write: the ledger's row is written at the end, so that nothing is locked
	// meanwhile. Two attempts may then work at once; one of them is rolled back.
	Optimistic bool

	// ReadFrom says where a kind that only reads (worker.ReadOnly) does so. 0 means Primary.
	// Other kinds must leave it out, and MaxLag and OnLag with it.
	ReadFrom ReadFrom

	// MaxLag is how old the rows may be, at most, that a job reads from a replica, when it
	// begins. 0 means 10 seconds; at least MinLag.
	MaxLag time.Duration

	// OnLag says what becomes of a job whose database has a read address, while the replica
	// there is further behind than MaxLag, away, or no replica any more. 0 means ReadPrimary.
	OnLag LagPolicy

	// Priority orders jobs of one queue: 1 (first) to 4. 0 means 1.
	Priority int

	// StrictArgs refuses stored arguments with a field that the struct of the kind does
	// not have by this very name, upper and lower case included: a name that somebody has
	// misspelt would else count as left out. It refuses a name that one object has twice, and
	// null for a field that is no pointer, slice, map or interface, and an array of another
	// length than its type's. Whatever takes JSON for the kind in Go refuses them
	// (orchestrator.CheckStored); a row that another client has written ends as cancelled, class
	// bad_args, without an attempt's work. When a field is new, replace the workers before the
	// programs that write the field. A type that reads its own JSON checks for itself.
	StrictArgs bool
}

// KindOptsOf returns the settings that args declare, or the zero value.
func KindOptsOf(args Args) KindOpts {
	if with, ok := args.(WithKindOpts); ok {
		return with.KindOpts()
	}
	return KindOpts{}
}

// Scope says what one job is about.
type Scope int

const (
	// ScopeTenant jobs act for one tenant, in its database, and in a shared
	// database see that tenant's rows only.
	ScopeTenant Scope = iota

	// ScopeDatabase jobs act on one database as a whole, whatever tenants live
	// in it (ANALYZE, VACUUM): one job per database, organisation 0.
	ScopeDatabase
)

// String returns "tenant" or "database".
func (s Scope) String() string {
	if s == ScopeDatabase {
		return "database"
	}
	return "tenant"
}

// Login names one of the two roles that Headgate holds for each database.
type Login int

const (
	// LoginJob is the role of ordinary work. It owns nothing, and row-level
	// security holds it to one organisation.
	LoginJob Login = iota

	// LoginOwner owns the tables. It is for maintenance that Postgres allows to
	// owners only; a kind that uses it must never run a user's SQL.
	LoginOwner
)

// String returns "job" or "owner".
func (l Login) String() string {
	if l == LoginOwner {
		return "owner"
	}
	return "job"
}

// Idempotence is a kind's answer to the question what happens if its work is
// begun again after a crash. Nobody but its author knows.
type Idempotence int

const (
	// Undeclared is right for kinds that work in a transaction: the ledger
	// answers for them.
	Undeclared Idempotence = iota

	// Idempotent work may be done again, whole or in part, without harm
	// (ANALYZE, VACUUM, REINDEX).
	Idempotent

	// Verifiable work can be looked for: the kind has a function that says
	// whether it was done.
	Verifiable

	// Chunked work is done in steps (Info.Step), each of which commits with a
	// ledger row of its own and is done once; what lies between the steps may be
	// done again.
	Chunked

	// Unsafe work must not be begun a second time: if an attempt began and its
	// end is not known, the job waits for a person.
	Unsafe
)

// String returns the name as it is written in Go, in lower case.
func (i Idempotence) String() string {
	return [...]string{"undeclared", "idempotent", "verifiable", "chunked", "unsafe"}[min(max(i, 0), Unsafe)]
}

// ReadFrom says which server a kind that only reads reads from.
type ReadFrom int

const (
	// Primary is where the kinds that write do their work.
	Primary ReadFrom = iota

	// Replica is the read address of the job's database. In a database without a read
	// address the kind reads from the primary, whatever its OnLag is.
	Replica
)

// String returns "primary" or "replica".
func (r ReadFrom) String() string {
	if r == Replica {
		return "replica"
	}
	return "primary"
}

// MinLag is the least MaxLag: workers ask a primary once a second how far its log is.
const MinLag = 2 * time.Second

// LagPolicy says what becomes of a job while its replica may not be read from.
type LagPolicy int

const (
	// ReadPrimary has the job read from the primary.
	ReadPrimary LagPolicy = iota

	// WaitForReplica has the job wait, class ClassReplica, without using an attempt.
	WaitForReplica
)

// String returns "read_primary" or "wait_for_replica".
func (p LagPolicy) String() string {
	if p == WaitForReplica {
		return "wait_for_replica"
	}
	return "read_primary"
}

package jobs

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// Job is one attempt at one job, as its handler sees it.
type Job[A Args] struct {
	Info

	// Args are the arguments as they were enqueued.
	Args A
}

// Info is what a job is, whatever its kind.
type Info struct {
	// UID identifies the job for ever: a UUID minted when it was enqueued, or made from
	// the schedule's occurrence that the job is for (UIDOfOccurrence). It keys the
	// ledger; use it as the key of every effect outside Postgres. It tells no time.
	UID string

	// Kind is the kind's name, Queue the queue it came through.
	Kind, Queue string

	// Attempt counts from 1 to MaxAttempts. A snoozed attempt does not count.
	Attempt, MaxAttempts int

	// Tenant is whom the job is for. It is the zero Tenant for a job of scope
	// database.
	Tenant Tenant

	// BrandID is the brand of the tenant's that the job is limited to; nil is all brands.
	BrandID *int

	// Database is the catalog's name of the database that the job runs in.
	Database string

	// Dedicated says that the database belongs to this tenant alone. Else tenants share
	// it, and row-level security has to keep them apart.
	Dedicated bool

	// Schedule is the schedule that enqueued the job, "" if an application did,
	// Nominal the time that the schedule named, and Effective when it was to start:
	// later by the schedule's place in its spread (both zero without a schedule).
	Schedule           string
	Nominal, Effective time.Time

	// EnqueuedAt and ScheduledAt are when the job was accepted and when it was
	// due, by the central database's clock. Where another client wrote the row they
	// may be [Infinity] or [NegativeInfinity].
	EnqueuedAt, ScheduledAt time.Time

	// Tags are the labels given at enqueue.
	Tags []string

	// Result is what the attempt leaves behind besides its rows in the tenant's
	// database. The handler fills it; it is kept with the outcome, and in the
	// ledger, so that a job found done is reported as it was.
	Result *Result

	// Step does a part of a chunked job (Idempotence) in a transaction of its
	// own, once: if an earlier attempt has committed the step of that name, do is
	// not called and Step returns nil. name is 1 to 100 characters and means the
	// same part in every attempt; do follows the rules of a [TxHandler]. It is nil
	// in kinds that work in a transaction.
	Step func(ctx context.Context, name string, do func(ctx context.Context, tx pgx.Tx) error) error `json:"-"`

	// Follow asks for another job, for the same tenant (or, for a kind of scope
	// database, the same database) once this one has succeeded. It is kept in the
	// tenant's ledger with this job's own rows, and is in the queue from the moment
	// that this job counts as succeeded: exactly once, whoever dies when. If this
	// attempt fails, nothing is asked for. The worker fills it; a test of a handler
	// gives a function of its own.
	//
	// An error says which value is wrong. Not safe for concurrent use.
	Follow func(args Args, opts *FollowUpOpts) error `json:"-"`

	// Logger is what Log returns. The worker fills it; a test of a handler may give one of
	// its own.
	Logger *slog.Logger `json:"-"`
}

// Log is the logger of this attempt. Its lines go to the worker's own handler, with tenant,
// database, kind, job_uid, attempt and trace_id. They are also kept with the job, from level
// info on (Config.JobLogLevel of the worker), whether the attempt succeeds or fails: `headgate
// job show` prints them. An attempt keeps 16 KB of lines; a text in them is cut at 2 KB, and
// a last line says how many further ones were left out. Lines are kept for 14 days.
//
// What the tenant's database has said of an error is redacted as in the error's own text.
// Whatever else a line says is kept as it is: log no secret. Without a worker, and without a
// Logger, it is slog.Default(). Safe for concurrent use; what is logged after the handler
// has returned is not kept.
func (i *Info) Log() *slog.Logger { return cmp.Or(i.Logger, slog.Default()) }

// Result is what a job reports of its work. Both fields are optional.
type Result struct {
	// Rows is the number of rows that the job wrote or exported.
	Rows int64 `json:"rows,omitempty"`

	// Output is a short text for people: a file's name, a summary. It is cut at
	// 64 KiB and must hold no secret.
	Output string `json:"output,omitempty"`
}

// TxHandler does a job inside one transaction of the tenant's database. The
// transaction commits when the handler returns nil, together with the ledger
// row that makes the effect happen exactly once. The handler must not commit or
// roll back itself; the transaction refuses it. It must give up when ctx ends.
type TxHandler[A Args] func(ctx context.Context, tx pgx.Tx, job *Job[A]) error

// Handler does a job without the tenant's database: it knows whom the job is for
// and does its work elsewhere (a mail, a webhook, a call of the application's
// own). It may run again after a crash; its effects need a key, the job's UID.
type Handler[A Args] func(ctx context.Context, job *Job[A]) error

// ConnHandler does a job on a connection of its own, outside any transaction,
// for statements that Postgres refuses inside one. The ledger knows that it
// began and that it ended; what happens between the two in a crash is for the
// kind's Idempotence to say. While it runs, no other attempt of the same job
// does: the connection holds a session lock on the job's UID, and must not give
// it up (pg_advisory_unlock_all). A connection that sits idle for the kind's
// IdleTimeout is ended by the server.
type ConnHandler[A Args] func(ctx context.Context, conn *pgx.Conn, job *Job[A]) error

// Verifier tells whether the work of a verifiable kind was done, by looking at
// the tenant's database. It is asked when an earlier attempt began and did not
// tell of its end: true makes the job succeed as it is, false has it run.
type Verifier[A Args] func(ctx context.Context, conn *pgx.Conn, job *Job[A]) (done bool, err error)

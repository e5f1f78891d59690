package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The ledger is one row in the tenant's own database for each job that has had
// its effect there. The functions are in migrations/tenant.

var (
	// errTombstone: the job was cancelled in the tenant's ledger.
	errTombstone = errors.New("the job was cancelled")

	// errBusy: another attempt of the job, alive or not yet cleaned up by the
	// server, holds the ledger's key.
	errBusy = errors.New("another attempt of this job has not ended yet")

	// errInterrupted: the connection was lost before the job was done.
	errInterrupted = errors.New("the connection to the tenant's database was lost before the job was done")
)

// errUnguarded: a superuser has set the login, the database or the server so.
var errUnguarded = errors.New("session_replication_role is replica there, so no trigger fires and no foreign key holds: " +
	"have a superuser RESET it (ALTER ROLE … RESET session_replication_role, or ALTER DATABASE)")

// found is the state of a ledger row.
type found string

const (
	begun     found = "begun"     // by us, just now
	absent    found = "absent"    // the probe's word for "nobody has"
	done      found = "done"      // the effect is committed
	tombstone found = "tombstone" // it must never happen
	claimed   found = "claimed"   // a committed claim without an end
)

// entry names a ledger row and says how it is written: the statement that opens
// the work and the one that ends it, both in the work's own transaction.
type entry struct {
	step       string // "" is the job itself
	begin, end string
}

const beginJob = `
SELECT state, result, ARRAY[` + guard.Columns + `] FROM headgate.begin_job($1, $2, $3, $4, $5, $6, $7, $8), headgate.watch_client($9, true)`

// endJob raises if the transaction or its context is not what it was ($3).
const endJob = `SELECT headgate.end_job($1, $2, $3, ARRAY[` + guard.Columns + `])`

// The optimistic form: nothing is written until the end.
const peekJob = `
SELECT state, result, ARRAY[` + guard.Columns + `] FROM headgate.peek_job($1, $2, $3, $4, $5, $6, $7, $8), headgate.watch_client($9, true)`

const endLate = `SELECT headgate.end_late($1, $2, $3, ARRAY[` + guard.Columns + `])`

// entry is the job's own row, written as its kind asks.
func (a *attempt) entry() entry {
	if a.kind.opts.Optimistic {
		return entry{begin: peekJob, end: endLate}
	}
	return entry{begin: beginJob, end: endJob}
}

// begin begins a transaction and opens the work in it, in one round trip. It
// returns true if the work is to be done now, and the transaction's state to
// compare with at its end; false if the ledger says that it was done before: the
// stored result is then the attempt's.
func (a *attempt) begin(ctx context.Context, conn *tenantdb.Conn, e entry) (bool, guard.State, error) {
	var state found
	var result []byte
	var before guard.State
	try := func(t tenantdb.Ticket) error {
		args := append([]any{t.Text, t.MAC, e.step, a.place.Generation, a.appName()}, a.limits()...)
		return open(ctx, conn, session.Begin, e.begin, args, &state, &result, &before)
	}
	if err := a.signed(ctx, conn, try); err != nil {
		return false, nil, opening(err)
	}
	if before.Unguarded() {
		return false, nil, &tenantdb.ConnectError{Database: a.place.Database, Login: a.place.Login, Class: jobs.ClassReadOnly, Err: errUnguarded}
	}
	switch state {
	case begun:
		if err := a.forgotten(); err != nil {
			return false, nil, err
		}
		a.asked = true
		return true, before, nil
	case done:
		return false, nil, a.recover(e, result)
	case tombstone:
		return false, nil, errTombstone
	default:
		// Only a COMMIT of the job's own leaves this behind, and the ledger's
		// trigger refuses that: somebody has been at the trigger.
		return false, nil, &guard.EscapedError{Ended: true}
	}
}

// open sends the start of a transaction and its first query together.
func open(ctx context.Context, conn *tenantdb.Conn, start, sql string, args []any, into ...any) error {
	b := &pgx.Batch{}
	conn.QueueBegin(b, start)
	b.Queue(sql, args...)
	results := conn.SendBatch(ctx, b)
	err := conn.Begun(results)
	if err == nil {
		err = results.QueryRow().Scan(into...)
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	if sqlstate(err) == tenantdb.ForeignTicket { // it may be asked again: see signed
		_, _ = conn.Exec(ctx, "ROLLBACK") // if that fails, so does what comes next
	}
	return err
}

// opening tells what an error of the statement that opens a job means.
func opening(err error) error {
	switch sqlstate(err) {
	case "55P03":
		return errBusy
	case "55000":
		return fmt.Errorf("%w: %w", jobs.ErrTenantMoving, err)
	}
	return fmt.Errorf("opening the job in the tenant's database: %w", err)
}

// recover takes the result of the attempt that did the work.
func (a *attempt) recover(e entry, result []byte) error {
	if e.step != "" {
		return nil // the job itself goes on
	}
	a.recovered = true
	if len(result) == 0 {
		return nil
	}
	stored, asked, err := wire.RestoreResult(result)
	if err != nil {
		return fmt.Errorf("reading the stored result: %w", err)
	}
	*a.info.Result, a.following = stored, asked
	return nil
}

const enterJob = `SELECT ARRAY[` + guard.Columns + `] FROM headgate.enter_job($1, $2, $3, $4, $5, $6, $7), headgate.watch_client($8, true)`

// enter opens a read-only job: the same context and limits, no ledger row.
func (a *attempt) enter(ctx context.Context, conn *tenantdb.Conn) (before guard.State, err error) {
	err = a.signed(ctx, conn, func(t tenantdb.Ticket) error {
		args := append([]any{t.Text, t.MAC, a.place.Generation, a.appName()}, a.limits()...)
		return open(ctx, conn, session.BeginReadOnly, enterJob, args, &before)
	})
	if err != nil {
		return nil, opening(err)
	}
	return before, nil
}

const lookAgain = `SELECT ARRAY[` + guard.Columns + `], pg_catalog.pg_is_in_recovery()`

// exit sees that a read-only job is still in its transaction, and ends that. A job that has
// read from a replica has read from a replica to its end.
func (a *attempt) exit(ctx context.Context, conn *tenantdb.Conn, before guard.State) error {
	var now guard.State
	var recovering bool
	b := &pgx.Batch{}
	b.Queue(lookAgain)
	b.Queue("ROLLBACK")
	conn.QueueReset(b)
	results := conn.SendBatch(ctx, b)
	err := results.QueryRow().Scan(&now, &recovering)
	if err == nil {
		_, err = results.Exec()
	}
	if err == nil {
		conn.Reset(results)
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("ending the transaction: %w", err)
	}
	if a.replica && !recovering {
		return &replicaError{fmt.Errorf("%w: it was promoted while the job read from it", tenantdb.ErrNoReplica)}
	}
	return guard.Compare(before, now)
}

// finish marks the work done and commits, in one round trip; last of all it
// resets the connection. If the mark is refused, COMMIT is not even tried.
func (a *attempt) finish(ctx context.Context, conn *tenantdb.Conn, e entry, last bool, before guard.State) error {
	result, err := a.result(e)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(e.end, e.step, result, before)
	b.Queue("COMMIT")
	if last {
		conn.QueueReset(b)
	}
	results := conn.SendBatch(ctx, b)
	_, err = results.Exec()
	if err != nil {
		_ = results.Close() // says the same
		return a.refused(conn, err, before)
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	if err == nil && last {
		conn.Reset(results)
	}
	if closing := results.Close(); err == nil && !last {
		err = closing // committed: what comes after is no matter of the job's
	}
	switch {
	case err == nil:
		return nil
	case sqlstate(err) != "" && !tenantdb.Ended(err) || errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("committing: %w", err) // Postgres said no
	default:
		return &unansweredCommitError{err}
	}
}

// refused tells why the work could not be marked done. COMMIT was on its way
// behind the mark: without an answer nobody knows.
func (a *attempt) refused(conn *tenantdb.Conn, err error, before guard.State) error {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || tenantdb.Ended(err) {
		if !conn.IsClosed() {
			return fmt.Errorf("marking the job done: %w", err) // it was never sent
		}
		return &unansweredCommitError{err}
	}
	switch refusal.Code {
	case "HG001":
		var now guard.State
		if json.Unmarshal([]byte(refusal.Detail), &now) == nil && len(now) == len(before) {
			if escaped := guard.Compare(before, now); escaped != nil {
				return escaped
			}
		}
		return &guard.EscapedError{Ended: true}
	case "HG003":
		return &unansweredCommitError{errOvertaken}
	case "55P03":
		return errBusy
	case "57014":
		if a.kind.opts.Optimistic { // it can only have waited for the ledger's key
			return fmt.Errorf("%w (%w)", errBusy, err)
		}
	}
	return fmt.Errorf("marking the job done: %w", err)
}

// errOvertaken: another attempt of an optimistic kind committed first. What it
// left is asked for as after a commit that was not answered.
var errOvertaken = errors.New("another attempt has done the work")

// result is what the ledger keeps of the work.
func (a *attempt) result(e entry) ([]byte, error) {
	if e.step != "" {
		return nil, nil
	}
	a.info.Result.Output = clean(a.info.Result.Output, 64<<10)
	a.nameFollowUps()
	result, err := wire.StoreResult(*a.info.Result, a.following)
	if err != nil {
		return nil, fmt.Errorf("encoding the job's result: %w", err)
	}
	return result, nil
}

// probe must not keep the job's key if the worker stops between it and its ROLLBACK.
const probe = `
SELECT p.state, p.result
FROM pg_catalog.set_config('idle_in_transaction_session_timeout', $4::text, true), headgate.probe($1, $2, $3) AS p`

// probeIdle bounds that.
const probeIdle = 5 * time.Second

// ask learns what became of a COMMIT that was never answered. The answer is nil
// if it happened, errInterrupted if it did not, errBusy if that is not decided
// yet; the job is then tried again later, and the ledger decides.
func (a *attempt) ask(ctx context.Context) error {
	// The attempt's own time may be up; the question is worth a little more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*a.w.cfg.LockTimeout)
	defer cancel()
	var state found
	var result []byte
	err := a.w.pools.With(ctx, a.place, func(ctx context.Context, conn *tenantdb.Conn) error {
		err := a.signed(ctx, conn, func(t tenantdb.Ticket) error {
			return open(ctx, conn, "BEGIN", probe, []any{t.Text, t.MAC, a.w.cfg.LockTimeout.Milliseconds(), strconv.FormatInt(probeIdle.Milliseconds(), 10)}, &state, &result)
		})
		if err == nil {
			_, err = conn.Exec(ctx, "ROLLBACK") // the probe's row must not stay
		}
		return lost(conn.Conn, err)
	})
	switch {
	case sqlstate(err) == "55P03":
		return errBusy
	case err != nil:
		return fmt.Errorf("%w, and asking its ledger failed: %w", errInterrupted, err)
	}
	a.open = false
	switch state {
	case done:
		return a.recover(entry{}, result)
	case tombstone:
		return errTombstone
	default:
		return errInterrupted
	}
}

// ticket says to the database at the other end of conn which job this is.
func (a *attempt) ticket(conn *tenantdb.Conn) tenantdb.Ticket { return a.ticketOf(conn, a.meta.UID) }

// signed speaks to a database by a ticket. A clock may have been set since the connection
// was made, while a job ran for long say: then it speaks again, by the present time.
func (a *attempt) signed(ctx context.Context, conn *tenantdb.Conn, speak func(tenantdb.Ticket) error) error {
	err := speak(a.ticket(conn))
	if sqlstate(err) == tenantdb.ForeignTicket && conn.SetClock(ctx) == nil {
		err = speak(a.ticket(conn))
	}
	return err
}

// ticketOf is ticket for another job of the same tenant.
func (a *attempt) ticketOf(conn *tenantdb.Conn, uid string) tenantdb.Ticket {
	bearer := tenantdb.Bearer{Org: a.place.OrgID, Key: a.place.OrgKey, UID: uid}
	if brand, ok := a.info.Brand(); ok {
		bearer.Brand = strconv.Itoa(brand)
	}
	return conn.Ticket(bearer)
}

// appName names the job in the server's pg_stat_activity.
func (a *attempt) appName() string {
	return "headgate/" + strings.ToValidUTF8(a.row.Kind[:min(len(a.row.Kind), 40)], "") + "/" + a.meta.UID[max(len(a.meta.UID)-12, 0):]
}

// limits are what the server is told of a job's statements, in milliseconds: how
// long one may run, wait for a lock, and leave the transaction idle, and how often
// to look whether the worker is still there: one that is taken for dead must have
// nothing at work any more, and that takes three heartbeats.
func (a *attempt) limits() []any {
	return []any{a.timeout.Milliseconds(), a.lockTimeout().Milliseconds(), a.kind.idleTimeout().Milliseconds(), a.w.cfg.HeartbeatEvery.Milliseconds()}
}

// lockTimeout is shorter than the attempt's time, so that of two timers on one
// wait the one that knows what was waited for ends it.
func (a *attempt) lockTimeout() time.Duration { return min(a.w.cfg.LockTimeout, a.timeout/2) }

func sqlstate(err error) string {
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/worker/tenantdb"
)

// Whose fault an error is depends on where it came from, never on its type or
// code alone:
//
//   - Until the handler begins, all that can fail is Headgate's own: asking the
//     catalog, connecting, the ledger. These errors speak about the server, and
//     no attempt is used.
//   - From then on an error is the handler's, or may be the handler's doing, also
//     where a statement of Headgate's own meets it, such as COMMIT. It is marked
//     as a workError. Of such an error only what the server has sent on the
//     attempt's own connection means more than a job_error, and only for the job.
//     What it says about the server counts when a probe of the worker's own finds
//     the same.
//   - What becomes of the connection is known, not read from an error.

// workError is an error that came after the job's handler had begun.
type workError struct {
	err   error
	own   *pgconn.PgError // what the attempt's own connection said, nil if the error is from elsewhere
	idled bool            // the connection is gone because the handler left its transaction idle
}

func (e *workError) Error() string { return e.err.Error() }
func (e *workError) Unwrap() error { return e.err }

// mark notes where an error came from. conn is nil for a handler that has none.
func (a *attempt) mark(conn *tenantdb.Conn, err error) error {
	if err == nil || !a.called {
		return err
	}
	marked := &workError{err: err}
	var said *pgconn.PgError
	if conn != nil && errors.As(err, &said) && conn.Said(said) {
		marked.own = said
	}
	marked.idled = conn != nil && conn.IsClosed() && conn.PgConn().TxStatus() != 'I' && conn.Idled(a.kind.idleTimeout())
	return marked
}

// classify says whose fault an attempt's error is.
func (a *attempt) classify(ctx context.Context, err error) (class jobs.Class, state string) {
	var work *workError
	state = sqlstate(err)
	if errors.As(err, &work) {
		return a.classOfWork(ctx, err, work), state
	}
	class = classOf(err)
	if class == "" {
		class, _ = tenantdb.Classify(err)
	}
	if a.called { // an answer of the ledger
		return class, state
	}
	switch class {
	case jobs.ClassTimeout, jobs.ClassStatementTimeout:
		class = jobs.ClassConnectTimeout
	case "":
		class = jobs.ClassInterrupted
		if state == "42501" {
			class = jobs.ClassNotPermitted
		}
	}
	return class, state
}

// classOfWork is what an error means that came after the handler had begun.
func (a *attempt) classOfWork(ctx context.Context, err error, work *workError) jobs.Class {
	var (
		args    *badArgsError
		escaped *guard.EscapedError
		output  *jobs.OutputError
		late    *timeoutError
		replica *replicaError
	)
	switch {
	case errors.As(err, &replica):
		return jobs.ClassReplica
	case errors.As(err, &args):
		return args.class()
	case errors.As(err, &escaped):
		return jobs.ClassEscaped
	case errors.As(err, &output): // the handler may have closed its connection for it
		return jobs.ClassOutput
	case work.idled:
		return jobs.ClassTimeout
	case errors.Is(err, errTombstone):
		return jobs.ClassTombstone
	case errors.Is(err, errBusy):
		return classBusy
	case errors.Is(err, errInterrupted):
		return jobs.ClassInterrupted
	case errors.As(err, &late):
		return jobs.ClassTimeout
	case work.own != nil:
		return a.classOfStatement(ctx, work.own)
	}
	return jobs.ClassJobError
}

// classOfStatement is what an error means that the server has sent on the
// attempt's own connection.
func (a *attempt) classOfStatement(ctx context.Context, said *pgconn.PgError) jobs.Class {
	switch said.Code {
	case "2D000": // invalid_transaction_termination
		return jobs.ClassEscaped
	case "40001", "40P01":
		return jobs.ClassConflict
	case "57014":
		return jobs.ClassStatementTimeout
	case "55P03":
		return jobs.ClassLockTimeout
	case "42501":
		if strings.HasPrefix(said.Routine, "aclcheck_error") {
			return jobs.ClassNotPermitted
		}
		// Else no GRANT would help: a policy refuses a row, a SET or a RAISE says so.
	case "25006":
		if a.kind.form != readOnly && a.w.confirms(ctx, a.place, jobs.ClassReadOnly) {
			return jobs.ClassReadOnly
		}
	case "53100":
		if !a.replica && a.w.confirms(ctx, a.place, jobs.ClassDiskFull) {
			return jobs.ClassDiskFull
		}
		// A tablespace of the job's own may be full while the probe's is not.
		if a.unproven = said.Routine != "exec_stmt_raise"; a.unproven {
			return jobs.ClassDiskFull
		}
	}
	return jobs.ClassJobError
}

// explained adds to an attempt's error what its own words do not say.
func (a *attempt) explained(class jobs.Class, err error) error {
	var work *workError
	switch {
	case class == jobs.ClassTimeout && errors.As(err, &work) && work.idled:
		return fmt.Errorf("the handler left its transaction idle for longer than its kind's IdleTimeout of %s, and the server ended it: "+
			"do what takes long before the first statement, or give the kind a longer KindOpts.IdleTimeout (%w)", a.kind.idleTimeout(), err)
	case class == jobs.ClassConnectTimeout && !a.called && errors.As(err, new(*timeoutError)):
		return fmt.Errorf("before its handler had begun: %w", err)
	case class == jobs.ClassNotPermitted && a.kind.opts.Login == jobs.LoginOwner:
		return fmt.Errorf("%w: the owner's login (%s) of database %s must own the object that the message names, or be a member of its owner", err, a.place.Login, a.place.Database)
	case class == jobs.ClassNotPermitted && !a.called: // Headgate's own statements, whose error says what to do
		return err
	case class == jobs.ClassNotPermitted && !a.place.Dedicated:
		return fmt.Errorf("%w: `headgate database protect %s --table TABLE`, or --view VIEW, gives jobs what the message names and keeps them to their tenant's rows, where a GRANT alone would stop all jobs of the database; "+
			"if jobs have some rights on it, --grant select,insert,update,delete says which they are to have; a partition is reached through its parent, a view by the name that --view prints, and nobody's job may TRUNCATE; USAGE on a sequence or schema, and EXECUTE on a function without SECURITY DEFINER, take a GRANT TO headgate_job, but what is of schema headgate is not for jobs and takes none", err, a.place.Database)
	case class == jobs.ClassNotPermitted:
		return fmt.Errorf("%w: in database %s, GRANT the privilege on the object that the message names TO headgate_job, and USAGE on its schema, unless that is schema headgate, whose other functions are not for jobs", err, a.place.Database)
	}
	return err
}

package tenantdb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// ErrWrongDatabase: the address led to a database that is not the one the
// catalog means.
var ErrWrongDatabase = jobs.Sentinel("wrong_database", "this is another database than the catalog says")

// ErrUnknownPooler: statements that were prepared on the connection are not
// there, or those of others are.
var ErrUnknownPooler = jobs.Sentinel("unknown_pooler", "a pooler in transaction mode stands before the server, and the catalog does not say so")

// NotPermittedError says that the database is there, and the login lacks a privilege in it.
type NotPermittedError struct {
	Next string // what gives it
	Err  error
}

// Error names the statement.
func (e *NotPermittedError) Error() string {
	return fmt.Sprintf("the login lacks a privilege: %s (%v)", e.Next, e.Err)
}

// Unwrap returns the cause.
func (e *NotPermittedError) Unwrap() error { return e.Err }

// mayNotConnect says of a login that is known and may not connect how it may.
func mayNotConnect(cfg *pgx.ConnConfig, err error) error {
	if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != "42501" {
		return err
	}
	return &NotPermittedError{Err: err, Next: fmt.Sprintf("have an administrator run GRANT CONNECT ON DATABASE %s TO %s",
		pgx.Identifier{cfg.Database}.Sanitize(), pgx.Identifier{cfg.User}.Sanitize())}
}

// mayNotUse says of a login that may not use Headgate's schema how it may.
func mayNotUse(login, user string, err error) error {
	name := pgx.Identifier{user}.Sanitize()
	next := "GRANT headgate_job TO " + name + " /* in any database */; GRANT USAGE ON SCHEMA headgate TO headgate_job /* as the schema's owner */; GRANT EXECUTE ON FUNCTION headgate.whoami() TO headgate_job /* likewise */"
	if login == jobs.LoginOwner.String() {
		next = "GRANT of the role that owns schema headgate TO " + name
	}
	return &NotPermittedError{Err: err, Next: "have an administrator run, in that database: " + next}
}

// ConnectError says that no connection could be had, to which database, as
// whom, whose fault it is, and the cause.
type ConnectError struct {
	Database string
	Login    string
	Class    jobs.Class
	Err      error

	// RetryAfter is how long the job should stay away; 0 where nobody knows.
	RetryAfter time.Duration
}

// Error is one sentence with the cause and the next step.
func (e *ConnectError) Error() string {
	next := nextStep[e.Class]
	if e.Class == jobs.ClassUntrusted {
		next = untrustedStep(e.Err, ", with `headgate database login`")
	}
	return fmt.Sprintf("connecting to database %s as its %s login: %v%s", e.Database, e.Login, e.Err, next)
}

// Untrusted is what to do about a server that is not trusted, by whoever has given the
// address. It is empty where the server was trusted, and else begins with a semicolon.
func (e *ConnectError) Untrusted() string {
	if e.Class != jobs.ClassUntrusted {
		return ""
	}
	return untrustedStep(e.Err, "")
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// nextStep is what an operator does about a class; untrustedStep about ClassUntrusted.
var nextStep = map[jobs.Class]string{
	jobs.ClassAuthFailed:     "; give the catalog the right password with `headgate database login`",
	jobs.ClassUnreachable:    "; the job waits and is tried again",
	jobs.ClassServerFull:     "; the job waits and is tried again",
	jobs.ClassConnectTimeout: "; the job waits and is tried again",
	jobs.ClassUndecryptable:  "; start the worker with the key that sealed it, or store the address again",
	jobs.ClassWrongDatabase:  "; `headgate database reattach` says which database it is, and takes in one that was renamed, moved or made anew",
	jobs.ClassWrongCentre:    "",
	jobs.ClassUnprotected:    "",
	jobs.ClassNotPermitted:   "",
	jobs.ClassSchemaNewer:    "",
	jobs.ClassSchemaOlder:    "",
}

func connectError(ctx context.Context, place address.Place, err error) error {
	class, _ := classifyCause(err)
	if class == "" && ctx.Err() == nil {
		class = jobs.ClassUnreachable
	}
	if class == "" {
		class = jobs.ClassConnectTimeout
		err = fmt.Errorf("no connection in time: %w", err)
	}
	return &ConnectError{Database: place.Database, Login: place.Login, Class: class, Err: err}
}

// Classify says whose fault an error of a connection or a statement is, and
// its SQLSTATE if Postgres sent one. The class is "" where the error says
// nothing about the server: then it is the job's own.
func Classify(err error) (class jobs.Class, sqlstate string) {
	var connect *ConnectError
	if errors.As(err, &connect) {
		_, sqlstate = classifyCause(connect.Err)
		return connect.Class, sqlstate
	}
	class, sqlstate = classifyCause(err)
	if class == jobs.ClassAuthFailed {
		class = "" // only a login can fail so; a statement that raises 28000 is the job's own
	}
	return class, sqlstate
}

func classifyCause(err error) (jobs.Class, string) {
	if refused := (*NotPermittedError)(nil); errors.As(err, &refused) {
		return jobs.ClassNotPermitted, "42501"
	}
	if errors.As(err, new(*centreError)) { // whatever the central database said
		return jobs.ClassInterrupted, ""
	}
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		return cmp.Or(byPooler(pgErr), byState(pgErr.Code)), pgErr.Code
	}
	var version *migrations.VersionError
	var network net.Error
	var certificate *tls.CertificateVerificationError
	var root *rootCertError
	var dial *net.OpError
	switch {
	case errors.Is(err, address.ErrUndecryptable):
		return jobs.ClassUndecryptable, ""
	case errors.As(err, &certificate), errors.As(err, &root), isRefusedTLS(err):
		return jobs.ClassUntrusted, ""
	case errors.Is(err, migrations.ErrForeignSchema):
		return jobs.ClassNotPermitted, ""
	case errors.Is(err, ErrWrongCentre):
		return jobs.ClassWrongCentre, ""
	case errors.Is(err, ErrUnprotected):
		return jobs.ClassUnprotected, ""
	case errors.Is(err, ErrWrongDatabase):
		return jobs.ClassWrongDatabase, ""
	case errors.As(err, &version) && version.Newer():
		return jobs.ClassSchemaNewer, ""
	case errors.As(err, &version):
		return jobs.ClassSchemaOlder, ""
	case errors.As(err, &dial) && dial.Op == "dial", errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded):
		return jobs.ClassUnreachable, ""
	}
	return "", ""
}

// byState maps a SQLSTATE to the class of server-side faults, "" for all that
// a job's own SQL can cause.
func byState(code string) jobs.Class {
	switch code {
	case "28P01", "28000":
		return jobs.ClassAuthFailed
	case "53300":
		return jobs.ClassServerFull
	case "57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006":
		return jobs.ClassUnreachable
	case "3D000": // the server answers: it has no such database
		return jobs.ClassWrongDatabase
	case "25006":
		return jobs.ClassReadOnly
	case "53100":
		return jobs.ClassDiskFull
	case "40001", "40P01":
		return jobs.ClassConflict
	case "57014":
		return jobs.ClassStatementTimeout
	case "55P03":
		return jobs.ClassLockTimeout
	}
	return ""
}

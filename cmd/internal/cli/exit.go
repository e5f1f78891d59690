package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// The exit codes. `--help` lists them.
const (
	ExitOK           = 0
	ExitFailed       = 1
	ExitUsage        = 2
	ExitNotFound     = 3
	ExitNotPermitted = 4
	ExitUnreachable  = 5
	ExitConflict     = 6
	ExitSchema       = 7
	ExitTimeout      = 124
	ExitInterrupted  = 130
)

// exitCodesText is the end of a program's help.
const exitCodesText = `
Exit codes:
  0    ok
  1    finished, with failures
  2    usage: a wrong flag, argument or value
  3    not found
  4    not permitted: a login is refused, a privilege is missing, a tenant is suspended
  5    unreachable: the central database, or the one being added, does not answer
  6    conflict: it exists already, or its state does not allow this
  7    the schema of a database and this program do not fit
  124  timeout
  130  interrupted

Data goes to standard output, everything else to standard error.
`

// ChildError carries the exit code of a command that we ran for the user. It has
// said itself what was wrong.
type ChildError struct{ Code int }

func (e *ChildError) Error() string {
	return fmt.Sprintf("the command ended with exit code %d", e.Code)
}

// end says what went wrong and returns the exit code.
func (app *App) end(ctx context.Context, err error) int {
	var child *ChildError
	if errors.As(err, &child) {
		return child.Code
	}
	if err == nil {
		return ExitOK
	}
	code := ExitCode(err)
	if errors.Is(ctx.Err(), context.Canceled) && code != ExitUsage {
		code, err = ExitInterrupted, context.Cause(ctx)
	}
	var unread *selector.Error
	if errors.As(err, &unread) {
		app.Say("%s", unread.Pointed())
	}
	app.Say("%s: %s", app.name, strings.Join(strings.Fields(err.Error()), " ")) // one line
	return code
}

// codes says which errors have which exit code; the first that matches counts.
var codes = []struct {
	code int
	is   func(error) bool
}{
	{ExitUsage, matches[*UsageError]},
	{ExitUsage, matches[*jobs.InputError]},
	{ExitUsage, protection.IsRequestError},
	{ExitUsage, oneOfErrors(catalog.ErrNoKey, catalog.ErrWrongKeys, address.ErrUndecryptable, jobs.ErrNoTenant,
		importer.ErrEmpty, importer.ErrMissing)},
	{ExitNotFound, oneOfErrors(jobs.ErrUnknownTenant, jobs.ErrUnknownDatabase, jobs.ErrUnknownBrand, jobs.ErrUnknownJob,
		catalog.ErrUnknownServer, catalog.ErrUnknownRegion, catalog.ErrUnknownKey, catalog.ErrUnknownAuthority, catalog.ErrUnknownDomain,
		catalog.ErrUnknownPlan, catalog.ErrUnknownFeature, catalog.ErrNoIntent,
		schedule.ErrUnknown, schedule.ErrUnknownCalendar, schedule.ErrUnknownBlackout, schedule.ErrUnknownMaintenanceWindow,
		admission.ErrNotPaused, admission.ErrNoLimit, admission.ErrNoEnqueueGrant)},
	{ExitConflict, oneOfErrors(jobs.ErrIdempotencyConflict, jobs.ErrJobFinished, jobs.ErrRetryRefused, jobs.ErrNotRemoved,
		catalog.ErrExists, catalog.ErrChanged, catalog.ErrHeld, catalog.ErrExpectation, catalog.ErrKeyInUse,
		catalog.ErrAuthorityInUse, catalog.ErrReferred, catalog.ErrFull, catalog.ErrRetiredKey,
		schedule.ErrExists, schedule.ErrConflict, migrations.ErrOtherDatabase,
		tenantdb.ErrWrongDatabase, tenantdb.ErrWrongCentre, tenantdb.ErrUnknownPooler, tenantdb.ErrNoReplica, tenantdb.ErrUnprotected)},
	{ExitSchema, matches[*migrations.VersionError]},
	{ExitSchema, matches[*migrations.QueueError]},
	{ExitNotPermitted, matches[*rightError]},
	{ExitNotPermitted, oneOfErrors(jobs.ErrTenantSuspended, jobs.ErrTenantMoving, jobs.ErrDatabaseDetached, jobs.ErrFeatureOff, jobs.ErrKindNotAllowed)},
	{ExitNotPermitted, sqlstates("28000", "28P01", "42501")},
	{ExitNotPermitted, isRefused},
	{ExitNotPermitted, matches[*protection.ForeignError]},
	{ExitUnreachable, isUnreachable},
	{ExitUnreachable, oneOfErrors(catalog.ErrUnavailable)},
	{ExitUnreachable, matches[*net.DNSError]}, // the DNS was asked whose a domain is
	{ExitTimeout, matches[*migrations.LockedError]},
	{ExitTimeout, sqlstates("55P03")},
	{ExitTimeout, oneOfErrors(context.DeadlineExceeded)},
	{ExitInterrupted, oneOfErrors(context.Canceled)},
}

// ExitCode returns the exit code of an error.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	for _, c := range codes {
		if c.is(err) {
			return c.code
		}
	}
	return ExitFailed
}

// rightError is of a login that was found to lack a right before the server said so.
type rightError struct{ error }

func (e *rightError) Unwrap() error { return e.error }

// NotPermittedf makes an error of a login that lacks a right.
func NotPermittedf(format string, args ...any) error {
	return &rightError{fmt.Errorf(format, args...)}
}

func matches[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func oneOfErrors(these ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(these, func(this error) bool { return errors.Is(err, this) })
	}
}

func sqlstates(codes ...string) func(error) bool {
	return func(err error) bool {
		var pgErr *pgconn.PgError
		return errors.As(err, &pgErr) && slices.Contains(codes, pgErr.Code)
	}
}

// LacksRight reports whether a server said that the login lacks a privilege.
func LacksRight(err error) bool { return sqlstates("42501")(err) }

// isRefused reports whether a login was refused, in the server's words or in a
// pooler's.
func isRefused(err error) bool {
	var connect *tenantdb.ConnectError
	return errors.As(err, &connect) && connect.Class == jobs.ClassAuthFailed
}

// isUnreachable reports whether no connection could be had, or one was lost.
func isUnreachable(err error) bool {
	var network *net.OpError
	return matches[*pgconn.ConnectError](err) || matches[*tenantdb.ConnectError](err) || errors.As(err, &network) ||
		errors.Is(err, pgconn.ErrConnClosed) || sqlstates("57P01", "57P02", "57P03", "53300", "08006")(err)
}

// fromPostgres reports whether a server said no, so that the fault is not in
// what the user wrote.
func fromPostgres(err error) bool { return matches[*pgconn.PgError](err) }

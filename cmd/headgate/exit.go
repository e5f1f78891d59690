package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The exit codes. `headgate --help` lists them.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitNotPermitted = 4
	exitUnreachable  = 5
	exitConflict     = 6
	exitSchema       = 7
	exitTimeout      = 124
	exitInterrupted  = 130
)

// childError carries the exit code of a command that we ran for the user. It has
// said itself what was wrong.
type childError struct{ code int }

func (e *childError) Error() string {
	return fmt.Sprintf("the command ended with exit code %d", e.code)
}

// end says what went wrong and returns the exit code.
func (p *program) end(ctx context.Context, cmd *cobra.Command, err error) int {
	var child *childError
	if errors.As(err, &child) {
		return child.code
	}
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if errors.Is(ctx.Err(), context.Canceled) && code != exitUsage {
		code, err = exitInterrupted, context.Cause(ctx)
	}
	p.say("headgate: %s", sentence(code, cmd, err))
	return code
}

// sentence is an error as one line.
func sentence(code int, cmd *cobra.Command, err error) string {
	text := err.Error()
	if code == exitTimeout && errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("%s was not done after %s: %s", cmd.CommandPath(), shortCommand, text)
	}
	return strings.Join(strings.Fields(text), " ")
}

// codes says which errors have which exit code; the first that matches counts.
var codes = []struct {
	code int
	is   func(error) bool
}{
	{exitUsage, matches[*usageError]},
	{exitUsage, matches[*catalog.InputError]},
	{exitUsage, oneOfErrors(catalog.ErrNoKey, jobs.ErrNoTenant)},
	{exitNotFound, oneOfErrors(jobs.ErrUnknownTenant, jobs.ErrUnknownDatabase, catalog.ErrUnknownServer,
		orchestrator.ErrUnknownJob, orchestrator.ErrUnknownSchedule, orchestrator.ErrNotPaused, orchestrator.ErrNoLimit,
		orchestrator.ErrUnknownCalendar, orchestrator.ErrUnknownClosure)},
	{exitConflict, oneOfErrors(catalog.ErrExists, orchestrator.ErrScheduleExists, orchestrator.ErrScheduleConflict, orchestrator.ErrIdempotencyConflict,
		orchestrator.ErrJobFinished, orchestrator.ErrRetryRefused, migrations.ErrOtherDatabase,
		tenantdb.ErrWrongDatabase)},
	{exitSchema, matches[*migrations.VersionError]},
	{exitSchema, matches[*migrations.QueueError]},
	{exitNotPermitted, oneOfErrors(jobs.ErrTenantSuspended, jobs.ErrTenantMoving)},
	{exitNotPermitted, sqlstates("28000", "28P01", "42501")},
	{exitNotPermitted, isRefused},
	{exitUnreachable, isUnreachable},
	{exitTimeout, matches[*migrations.LockedError]},
	{exitTimeout, oneOfErrors(context.DeadlineExceeded)},
	{exitInterrupted, oneOfErrors(context.Canceled)},
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	for _, c := range codes {
		if c.is(err) {
			return c.code
		}
	}
	return exitFailed
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

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// connect opens one connection with a login that the user has just given, so
// that what is wrong with it is said in terms of that. whose is "the owner's".
func (t target) connect(ctx context.Context, whose string, a address.Address) (*pgx.Conn, error) {
	if err := t.check(whose, a); err != nil {
		return nil, err
	}
	conn, err := tenantdb.Connect(ctx, t.config(), t.server.Transport, t.pooler(), a.Canonical(t.server.Transport))
	var failed *tenantdb.ConnectError
	if !errors.As(err, &failed) {
		return conn, err
	}
	return nil, centralError{err, fmt.Sprintf("%s login %s: %s", whose, a, refusal(failed))}
}

// refusal says why there is no connection, and what to do.
func refusal(failed *tenantdb.ConnectError) string {
	var pgErr *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(failed, &pgErr) && (pgErr.Code == "3D000" || pgErr.Code == "08P01" && strings.Contains(pgErr.Message, "does not exist")):
		return "the server has no such database; create it first"
	case failed.Class == jobs.ClassAuthFailed && pgErr != nil:
		return fmt.Sprintf("the server refuses it (%s); correct the user or the password and run the command again", pgErr.Message)
	case errors.As(failed, &pgErr):
		return fmt.Sprintf("the server takes no connection (%s)", pgErr.Message)
	case errors.As(failed, &network):
		return fmt.Sprintf("the server does not answer (%v); is it running, and are host and port right?", network.Err)
	}
	return fmt.Sprintf("no connection (%v)", cause(failed.Err))
}

// cause is the last error of a chain: pgx wraps it in several lines.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

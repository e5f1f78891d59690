package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// target is a server to connect to, outside the pools of a worker.
type target struct {
	server      catalog.Server
	authorities *catalog.Authorities
}

func (t target) pooler() address.Pooler { return t.server.Pooler }

// past is the same server without its pooler.
func (t target) past() target {
	t.server.Pooler = address.NoPooler
	return t
}

// check holds an address to the server's hosts and transport.
func (t target) check(whose string, a address.Address) error {
	if err := a.Check(t.server.Transport, t.server.Hosts); err != nil {
		next := ""
		if host, err := t.server.Transport.CheckHost(a.Host); err == nil && host != "" && !slices.Contains(t.server.Hosts, host) {
			next = fmt.Sprintf("; if it is another name of that server, `headgate server host add %s %s`", t.server.Name, host)
		}
		return cli.Usagef("%s address does not fit server %s: %w%s", whose, cmp.Or(t.server.Name, "?"), err, next)
	}
	return nil
}

// connect opens one connection with a login that the user has just given, so
// that what is wrong with it is said in terms of that. whose is "the owner's".
func (t target) connect(ctx context.Context, whose string, a address.Address) (*pgx.Conn, error) {
	if err := t.check(whose, a); err != nil {
		return nil, err
	}
	a, err := t.authorities.Trust(ctx, a)
	if err != nil {
		return nil, err
	}
	conn, err := tenantdb.Connect(ctx, tenantdb.Config{}, t.server.Transport, t.pooler(), a.Canonical(t.server.Transport))
	var failed *tenantdb.ConnectError
	if !errors.As(err, &failed) {
		return conn, err
	}
	return nil, cli.InWords(err, fmt.Sprintf("%s login %s: %s", whose, a, refusal(failed)))
}

// refusal says why there is no connection, and what to do.
func refusal(failed *tenantdb.ConnectError) string {
	var pgErr *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(failed, &pgErr) && (pgErr.Code == "3D000" || pgErr.Code == "08P01" && strings.Contains(pgErr.Message, "does not exist")):
		return "the server has no such database; create it first, or give the name that it has now"
	case failed.Class == jobs.ClassAuthFailed && pgErr != nil:
		return fmt.Sprintf("the server refuses it (%s); correct the user or the password and run the command again", pgErr.Message)
	case errors.As(failed, &pgErr):
		return fmt.Sprintf("the server takes no connection (%s)", pgErr.Message)
	case errors.As(failed, &network):
		return fmt.Sprintf("the server does not answer (%v); is it running, and are host and port right?", network.Err)
	}
	return fmt.Sprintf("no connection (%v)%s", cli.Cause(failed.Err), failed.Untrusted())
}

const selectWhoami = `SELECT database_id::pg_catalog.text FROM headgate.whoami()`

// whoami asks a database whether it is the one that the catalog means.
func whoami(ctx context.Context, conn *pgx.Conn, a address.Address, database catalog.Database) error {
	var found string
	err := conn.QueryRow(ctx, selectWhoami).Scan(&found)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "42501":
		return fmt.Errorf("login %q may not call Headgate's functions: have an administrator run GRANT headgate_job TO %s (%w)",
			a.User, pgx.Identifier{a.User}.Sanitize(), err)
	case errors.As(err, &pgErr) && (pgErr.Code == "3F000" || pgErr.Code == "42883"):
		return fmt.Errorf("%w: %s has no Headgate schema: `headgate database reattach %s --adopt` takes one that was made anew", tenantdb.ErrWrongDatabase, a, database.Name)
	case err != nil:
		return fmt.Errorf("asking database %q whose it is: %w", a.Database, err)
	case found != database.ID:
		return fmt.Errorf("%w: %s bears another identity than database %s: `headgate database reattach %s` says whose", tenantdb.ErrWrongDatabase, a, database.Name, database.Name)
	}
	return nil
}

// try logs in and compares the database's mark.
func (t target) try(ctx context.Context, login jobs.Login, a address.Address, database catalog.Database) error {
	conn, err := t.connect(ctx, "the "+login.String()+"'s", a)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	return whoami(ctx, conn, a, database)
}

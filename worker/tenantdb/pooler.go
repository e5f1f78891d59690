package tenantdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Through a pooler in transaction mode a connection is a right to transactions,
// each on a session that others had before and others get after:
//
//   - Nothing is prepared under a name. pgx remembers what a statement looks like
//     (QueryExecModeCacheDescribe) and sends it whole, so that arguments are
//     encoded as on a direct connection.
//   - Every setting is local to its transaction (package session).
//   - Each transaction asks whose database it is in, along with its BEGIN: the
//     pooler may lead elsewhere by now, and the connection would not notice.
//   - What cleans a session up is sent along with COMMIT. A pooler takes the
//     session back when the server says that it is idle, which it says once, after
//     the last of them.
//   - What needs a session goes past the pooler ([Session]).
//
// What it cannot do: a handler whose own SQL ended its transaction was on a
// session that cannot be found again; its settings would meet the next
// transaction of this login. The ledger's trigger refuses such a COMMIT, and
// PgBouncer with server_reset_query_always = 1 cleans up after a ROLLBACK.

// Session returns where to connect for work that needs a session of its own. The
// error for a server behind a transaction pooler whose database has no direct
// address is a *[ConnectError] that says what to do.
func Session(place address.Place) (address.Place, error) {
	direct, ok := place.Session()
	if ok {
		return direct, nil
	}
	return place, &ConnectError{Database: place.Database, Login: place.Login, Class: jobs.ClassUnreachable, Err: fmt.Errorf(
		"this work needs a session of its own, server %s is behind a pooler in transaction mode, and the database has no direct address for this login: "+
			"give it one with `headgate database login %s` and HEADGATE_%s_DIRECT_URL", place.Server, place.Database, strings.ToUpper(place.Login))}
}

// behind changes what a connection to a pooler may not have.
func behind(pooler address.Pooler, cfg *pgx.ConnConfig) {
	if pooler != address.TransactionPooler && pooler != address.SessionPooler {
		return
	}
	clear(cfg.RuntimeParams) // others than a handful refuse the connection
	cfg.RuntimeParams["application_name"] = "headgate"
	session.PinPooled(cfg.RuntimeParams)
	if pooler == address.TransactionPooler {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		cfg.StatementCacheCapacity = 0
	}
}

// localSQL pins what a direct connection has from its startup packet, and lifts a
// timeout that would end the job's transaction at any moment.
var localSQL = session.Local(slices.Concat(session.Tenant, session.Timeless))

// wholeSQL does the same for a session of our own behind a pooler in session mode.
var wholeSQL = session.Whole(slices.Concat(session.Tenant, session.Timeless))

// Begin begins a transaction of our own on the connection, with all settings as
// they are in a job.
func (c *Conn) Begin(ctx context.Context) (pgx.Tx, error) {
	begin := session.Begin
	if c.pooled {
		begin += ";" + localSQL
	}
	return c.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
}

// QueueBegin begins a transaction in a batch, with what a pooler makes
// necessary. Begun reads its results, before those of what follows.
func (c *Conn) QueueBegin(b *pgx.Batch, begin string) {
	b.Queue(begin)
	if c.pooled {
		b.Queue(localSQL)
		b.Queue(whoami)
	}
}

// Begun reads the results of QueueBegin's statements.
func (c *Conn) Begun(results pgx.BatchResults) error {
	_, err := results.Exec()
	if err != nil || !c.pooled {
		return err
	}
	if _, err := results.Exec(); err != nil {
		return err
	}
	found, err := readWho(results.QueryRow())
	err = identify(c.place, c.Conn, found, err)
	if class, _ := classifyCause(err); class == jobs.ClassWrongDatabase || class == jobs.ClassNotPermitted || class == jobs.ClassSchemaOlder || class == jobs.ClassSchemaNewer {
		return &ConnectError{Database: c.place.Database, Login: c.place.Login, Class: class, Err: err}
	}
	return err
}

// leftPooledSQL is leftSQL for a session that is not ours to close: with a
// prepared statement in it, other than the pooler's own, the server ends it. The
// job is committed by then.
const leftPooledSQL = `
SELECT pg_catalog.pg_advisory_unlock_all(), EXISTS (
    SELECT FROM pg_catalog.pg_prepared_statements
    WHERE (from_sql OR name OPERATOR(pg_catalog.!~~) 'PGBOUNCER%') AND pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()))`

// unknownParameter is what PgBouncer says of a startup packet for a server.
const unknownParameter = "unsupported startup parameter"

// untold says of an error of connecting that a PgBouncer stands where the catalog
// knows of none.
func untold(place address.Place, err error) error {
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && strings.Contains(pgErr.Message, unknownParameter) {
		return fmt.Errorf("a PgBouncer stands before the server, and the catalog does not say so: `headgate server set %s --pooler session` (or transaction, as its pool_mode is): %w", place.Server, err)
	}
	return err
}

// byPooler tells what a pooler means. PgBouncer has one code for all it says
// itself: 08P01.
func byPooler(err *pgconn.PgError) jobs.Class {
	if err.Code != "08P01" || !fatal(err) {
		return ""
	}
	for _, known := range []struct {
		says  string
		class jobs.Class
	}{
		{"no more connections allowed", jobs.ClassServerFull}, // max_client_conn
		{"query_wait_timeout", jobs.ClassServerFull},          // its own pool is too small
		{"too many", jobs.ClassServerFull},                    // the server's words, passed on
		{"remaining connection slots", jobs.ClassServerFull},
		{"authentication failed", jobs.ClassAuthFailed},
		{"auth failed", jobs.ClassAuthFailed},
		{"no such user", jobs.ClassAuthFailed},
	} {
		if strings.Contains(err.Message, known.says) {
			return known.class
		}
	}
	return jobs.ClassUnreachable // it cannot reach the server, or is stopping
}

// Ended says that an error is the end of its connection, told by the server or
// by the pooler before it, so that the server may have done what it was asked.
func Ended(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && fatal(pgErr)
}

// fatal compares what is not in the server's language. Some poolers send only the
// severity that is, in English.
func fatal(err *pgconn.PgError) bool {
	severity := cmp.Or(err.SeverityUnlocalized, err.Severity)
	return severity == "FATAL" || severity == "PANIC"
}

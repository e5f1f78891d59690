package migrations

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// QueueError says that a session of the central database would work with another
// queue than the one that Headgate has there, or with none.
type QueueError struct {
	Schema string // where the queue is; "" before there is one
	Found  string // where this session's search_path leads; "" for nowhere
	Path   string // the search_path
	Role   string
	Usage  bool // the login may use the schema
}

// Error says what to do.
func (e *QueueError) Error() string {
	role := pgx.Identifier{e.Role}.Sanitize()
	if e.Schema == "" {
		return fmt.Sprintf("no schema of the search_path of login %s (%s) is there, so the queue would be nowhere: ALTER ROLE %s SET search_path = public, or another schema that is there, and connect again",
			e.Role, shownPath(e.Path), role)
	}
	if e.Found == "" && !e.Usage {
		return fmt.Sprintf("the queue is in schema %s of the central database, and login %s may not use that schema: as its owner GRANT USAGE ON SCHEMA %s TO the login's role; `headgate migrate up` names the role",
			e.Schema, e.Role, pgx.Identifier{e.Schema}.Sanitize())
	}
	found := "none"
	if e.Found != "" {
		found = "another one in schema " + e.Found
	}
	return fmt.Sprintf("the queue is in schema %s of the central database, and login %s finds %s, for its search_path is %s: ALTER ROLE %s SET search_path = %s, and connect again",
		e.Schema, e.Role, found, shownPath(e.Path), role, pgx.Identifier{e.Schema}.Sanitize())
}

func shownPath(path string) string {
	if path == "" || path == `""` {
		return "empty"
	}
	return path
}

// selectQueue asks where the queue is and where this session's search_path leads.
const selectQueue = `
SELECT q.schema, coalesce((SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                           WHERE c.oid = pg_catalog.to_regclass('river_job')), ''),
       pg_catalog.current_setting('search_path'), CURRENT_USER::text,
       coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace(pg_catalog.quote_ident(q.schema))::oid, 'USAGE'), true)
FROM headgate.queue q`

// Queue returns the schema that holds the queue. The error is a *[QueueError] if
// this session would find another one, and a *[VersionError] before there is one.
func Queue(ctx context.Context, db Querier) (schema string, err error) {
	e := &QueueError{}
	err = db.QueryRow(ctx, selectQueue).Scan(&e.Schema, &e.Found, &e.Path, &e.Role, &e.Usage)
	switch pgErr := (*pgconn.PgError)(nil); {
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"):
		return "", &VersionError{Where: "the central database", Program: len(central)}
	case err != nil:
		return "", fmt.Errorf("asking which schema holds the queue: %w", err)
	case e.Found != e.Schema:
		return "", e
	}
	return e.Schema, nil
}

// riverSchema is what River takes for the name of a schema, so that the channels of
// notifications have names that Postgres takes.
var riverSchema = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,45}$`)

// RiverSchema returns what a River client is told of the schema that holds the queue. Left to
// itself it notifies on the channels of the first schema of its search_path, which is another
// one where a login has the name of a schema. "" stands for a name that River does not take:
// that schema is found by search_path alone.
func RiverSchema(schema string) string {
	if riverSchema.MatchString(schema) {
		return schema
	}
	return ""
}

// selectPath says where River's tables would be made.
const selectPath = `
SELECT coalesce(pg_catalog.current_schema(), ''), pg_catalog.current_setting('search_path'), CURRENT_USER::text, pg_catalog.to_regclass('headgate.queue') IS NOT NULL`

// onePlace refuses to migrate with a search_path that leads to another queue than
// the one that is there, or to no schema at all. It returns the schema of the queue; "" if there
// is none yet.
func onePlace(ctx context.Context, conn *pgx.Conn) (schema string, err error) {
	var there bool
	e := &QueueError{}
	var into string
	if err := conn.QueryRow(ctx, selectPath).Scan(&into, &e.Path, &e.Role, &there); err != nil {
		return "", fmt.Errorf("asking where the queue is to be: %w", err)
	}
	if !there {
		if into == "" {
			return "", e
		}
		return "", nil
	}
	return Queue(ctx, conn)
}

// SessionError says that a login's settings at the central database are not those
// that Headgate's statements are written for, and that a pooler keeps Headgate from
// setting them itself.
type SessionError struct {
	Role   string
	Wrong  []string // "default_transaction_isolation is serializable"
	Orders []string // what sets them right
}

// Error says what to do.
func (e *SessionError) Error() string {
	return fmt.Sprintf("sessions of login %s at the central database are not fit for the queue, and the pooler before it keeps Headgate from setting them right: %s; %s, and let the pooler connect anew",
		e.Role, strings.Join(e.Wrong, ", "), strings.Join(e.Orders, "; "))
}

// selectSession reads what must be so in every session of the central database.
const selectSession = `
SELECT CURRENT_USER::text, pg_catalog.current_setting('client_encoding'), pg_catalog.current_setting('default_transaction_isolation'),
       pg_catalog.current_setting('standard_conforming_strings'), (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'statement_timeout')`

// shortestStatement is the least statement_timeout, in milliseconds, with which a
// claim among many tenants is sure to come through.
const shortestStatement = 15_000

// CheckSession returns a *[SessionError] if statements of ours could fail or mean
// something else in this session. On a connection whose startup packet was pinned
// (jobs/session) there is nothing to find.
func CheckSession(ctx context.Context, db Querier) error {
	e := &SessionError{}
	var encoding, isolation, strings string
	var timeout int64
	if err := db.QueryRow(ctx, selectSession).Scan(&e.Role, &encoding, &isolation, &strings, &timeout); err != nil {
		return fmt.Errorf("asking for the session's settings: %w", err)
	}
	wrong := func(name, is, must string) {
		e.Wrong = append(e.Wrong, name+" is "+is)
		e.Orders = append(e.Orders, fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", pgx.Identifier{e.Role}.Sanitize(), name, must))
	}
	if encoding != "UTF8" {
		wrong("client_encoding", encoding, "UTF8")
	}
	if isolation != "read committed" {
		wrong("default_transaction_isolation", isolation, "read committed")
	}
	if strings != "on" {
		wrong("standard_conforming_strings", strings, "on")
	}
	if timeout != 0 && timeout < shortestStatement {
		wrong("statement_timeout", fmt.Sprintf("%dms", timeout), "0")
	}
	if len(e.Wrong) > 0 {
		return e
	}
	return nil
}

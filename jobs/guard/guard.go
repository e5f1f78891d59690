// Package guard tells whether a connection still is where a job began: in the
// same transaction, as the same role, for the same organisation.
//
// It is a guard against SQL that forgets or does not know, not a sandbox: it
// sees what is so when it looks; what a statement changes and puts back before
// it ends, it cannot see. The worker looks once, with the last statement of
// every transactional job; a SQL job looks after each of its statements.
package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Columns is a select list of what is looked at, all of it text that is never
// NULL: put ARRAY[…] round it in a query of your own, whose answer is a [State],
// or let [Watch] ask. Every name in it is qualified, so that no search_path can
// lead it elsewhere.
//
// It has the transaction's identity first. The time of its start is part of it,
// for transactions that have no number yet; a client cannot set it. No setting
// changes the form of any value.
//
// Changes are how many rows this session has changed in the tables of roles, their
// settings and memberships, and of databases. Every role may change its own password and
// settings, which would outlive the job in all databases of the server. Who may not make
// things in schema headgate, as job logins may not, changes no policy and no default
// privilege either; DROP OWNED would. The session's own counters know of each change, also
// of one that a savepoint has taken back. A look at locks would know as much, but costs 3 us
// for each lock that anybody on the server holds.
//
// Code is what SQL has left that could run at COMMIT, after the last look: functions of
// the session's temporary schema, triggers of its tables, deferrable triggers that this
// transaction has made anywhere, and cursors WITH HOLD. Of job logins every function that
// this transaction has made counts, because up to Postgres 14 everybody may make some in
// schema public. The tables of functions and triggers are read only where the session has
// made some.
const Columns = `pg_catalog.encode(pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp()), 'hex'),
       coalesce(pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, ''),
       CURRENT_USER::pg_catalog.text, SESSION_USER::pg_catalog.text,
       pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('row_security'),
       coalesce(pg_catalog.current_setting('headgate.context', true), ''), pg_catalog.current_setting('session_replication_role'),
       (pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_authid'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_authid'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_authid'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_db_role_setting'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_db_role_setting'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_db_role_setting'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_auth_members'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_auth_members'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_auth_members'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_database'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_database'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_database'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
        CASE WHEN pg_catalog.has_schema_privilege(SESSION_USER, pg_catalog.to_regnamespace('headgate')::pg_catalog.oid, 'CREATE') THEN 0
             ELSE pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_policy'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
                  pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_policy'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
                  pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_policy'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
                  pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_default_acl'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
                  pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_default_acl'::pg_catalog.regclass) OPERATOR(pg_catalog.+)
                  pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_default_acl'::pg_catalog.regclass) END)::pg_catalog.text,
       (CASE WHEN pg_catalog.current_setting('track_counts') OPERATOR(pg_catalog.=) 'on'
              AND pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_proc'::pg_catalog.regclass) OPERATOR(pg_catalog.=) 0
              AND pg_catalog.pg_stat_get_xact_tuples_inserted('pg_catalog.pg_trigger'::pg_catalog.regclass) OPERATOR(pg_catalog.=) 0 THEN 0
             ELSE (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc p
                    WHERE p.pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
                       OR NOT pg_catalog.has_schema_privilege(SESSION_USER, pg_catalog.to_regnamespace('headgate')::pg_catalog.oid, 'CREATE')
                      AND pg_catalog.age(p.xmin) OPERATOR(pg_catalog.<=) pg_catalog.age(pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid)) OPERATOR(pg_catalog.+)
                  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
                    WHERE NOT t.tgisinternal AND (c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
                       OR t.tgdeferrable AND pg_catalog.age(t.xmin) OPERATOR(pg_catalog.<=) pg_catalog.age(pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid))) END OPERATOR(pg_catalog.+)
        (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors u WHERE u.is_holdable))::pg_catalog.text`

// State is one look at a connection, a value for each of Columns and then one
// for each setting that is watched besides.
type State []string

// Columns by number, and their names.
const (
	columnStart = iota
	columnNumber
	columnUser
	columnContext     = columnUser + 4
	columnReplication = columnUser + 5
	columnChanges     = columnUser + 6
	columnCode        = columnUser + 7
)

var names = []string{
	"the transaction's start", "the transaction's number", "current_user", "session_user",
	"transaction_read_only", "row_security", "headgate.context", "session_replication_role", "changes", "code",
}

// Unguarded says that the session fires no triggers, so that neither foreign keys
// nor the ledger's own trigger hold in it. Only a superuser can set a login so.
func (s State) Unguarded() bool {
	return len(s) > columnReplication && s[columnReplication] == "replica"
}

// EscapedError says that a job's SQL left its transaction or its context. What
// it did must not be committed, and its connection not be used again.
type EscapedError struct {
	// Ended is set if the transaction is not the one that the job began in. Then
	// what ran before its end may be committed already.
	Ended bool

	// Changed says what else is not as it was: `row_security was "on" and is "off"`.
	// Nothing of it is kept when the transaction is rolled back.
	Changed []string
}

// Error is one sentence.
func (e *EscapedError) Error() string {
	if e.Ended {
		return "transaction ended by job SQL: what ran before its end may be committed; transaction control is not allowed in a job"
	}
	return "tenant context changed by job SQL: " + strings.Join(e.Changed, "; ") + ": remove what changes it"
}

// Compare returns nil if all is as it was before, an *EscapedError if not.
// settings are the names of what was watched besides Columns. A transaction that
// had no number and has one now is the same.
func Compare(before, now State, settings ...string) error {
	if number := before[columnNumber]; now[columnStart] != before[columnStart] || number != "" && now[columnNumber] != number {
		return &EscapedError{Ended: true}
	}
	all := slices.Concat(names, settings)
	escaped := &EscapedError{}
	for i := columnUser; i < len(now); i++ {
		switch {
		case now[i] == before[i]:
		case i == columnContext: // its values say nothing to people
			escaped.Changed = append(escaped.Changed, names[i]+" is not what Headgate has set")
		case i == columnChanges:
			escaped.Changed = append(escaped.Changed, "a role's password, settings or memberships, a policy or default privileges, which all jobs share")
		case i == columnCode:
			escaped.Changed = append(escaped.Changed, "a function, a trigger or a cursor WITH HOLD is left and could run at COMMIT; drop or close it before the job ends")
		default:
			escaped.Changed = append(escaped.Changed, fmt.Sprintf("%s was %q and is %q", all[i], before[i], now[i]))
		}
	}
	if len(escaped.Changed) > 0 {
		return escaped
	}
	return nil
}

// Guard remembers the state of one connection. It asks Postgres in one round
// trip a call, without pgx's prepared statements, which a job could replace. Not
// safe for concurrent use.
type Guard struct {
	conn     *pgconn.PgConn
	query    string
	settings []string
	before   State
}

// Watch notes the state of a connection that is in a transaction. settings are
// names to watch besides Columns; one that is not set counts as empty.
func Watch(ctx context.Context, conn *pgconn.PgConn, settings ...string) (*Guard, error) {
	if conn.TxStatus() != 'T' {
		return nil, errors.New("there is no transaction to guard")
	}
	g := &Guard{conn: conn, query: "SELECT " + Columns, settings: settings}
	for i := range settings {
		g.query += fmt.Sprintf(", coalesce(pg_catalog.current_setting($%d, true), '')", i+1)
	}
	var err error
	g.before, err = g.look(ctx)
	return g, err
}

// Check returns nil if all is as it was at Watch, an *EscapedError if not. Any
// other error means that it could not look, because a statement has failed or
// the connection is gone; nothing may be committed then either.
func (g *Guard) Check(ctx context.Context) error {
	if g.conn.TxStatus() == 'I' && !g.conn.IsClosed() {
		return &EscapedError{Ended: true}
	}
	now, err := g.look(ctx)
	if err != nil {
		return err
	}
	now[columnCode] = g.before[columnCode] // which counts at the end: until then SQL may drop it
	return Compare(g.before, now, g.settings...)
}

func (g *Guard) look(ctx context.Context) (State, error) {
	params := make([][]byte, len(g.settings))
	for i, name := range g.settings {
		params[i] = []byte(name)
	}
	return Ask(ctx, g.conn, g.query, params, len(names)+len(g.settings))
}

// Ask returns the one row of a query as it came over the wire, in binary; NULL
// counts as empty. It prepares nothing on the connection.
func Ask(ctx context.Context, conn *pgconn.PgConn, query string, params [][]byte, columns int) ([]string, error) {
	result := conn.ExecParams(ctx, query, params, nil, nil, []int16{1}).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("looking at the transaction: %w", result.Err)
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != columns {
		return nil, errors.New("looking at the transaction: no answer")
	}
	values := make([]string, columns)
	for i, value := range result.Rows[0] {
		values[i] = string(value)
	}
	return values, nil
}

package sqlscript

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Guard remembers in which transaction, as whom and for which organisation a
// connection works, and tells whether it still does. It is for every kind that
// works in a transaction, not for SQL jobs alone.
//
// Proposed home: a room of its own, jobs/guard (pgx only), since two sides call
// it: this package after each statement, and the worker's inTx, which would call
// Watch after begin_job and Check between the handler's return and finish_job,
// and give an [EscapedError] the class `escaped`.
//
// It asks Postgres, in one round trip a call, by names that no search_path can
// lead elsewhere, and without pgx's prepared statements, which a job could
// replace. It sees what is so between statements; what a statement changes and
// puts back before it ends, it cannot see. Not safe for concurrent use.
type Guard struct {
	conn   *pgconn.PgConn
	query  string
	names  []string // of the query's columns
	params [][]byte // the names of the caller's settings
	before []string
}

// EscapedError says that a job's SQL left its transaction or its context. What
// it did must not be committed, and its connection not be used again.
type EscapedError struct {
	// Ended is set if the transaction is not the one that the job began in. Then
	// what ran before its end may be committed already.
	Ended bool

	// Changed says what else is not as it was: `headgate.org was "1" and is "2"`.
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

// lookSQL has the transaction's identity first. The time of its start is part
// of it, for transactions that have no number yet; a client cannot set it.
const lookSQL = `
SELECT pg_catalog.transaction_timestamp(), pg_catalog.pg_current_xact_id_if_assigned(), CURRENT_USER, SESSION_USER,
       pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('row_security'),
       pg_catalog.current_setting('headgate.org', true)`

// Columns of lookSQL.
const (
	columnStart = iota
	columnNumber
	columnUser
)

// Watch notes the state of a connection that is in a transaction. settings are
// names to watch besides those of lookSQL; one that is not set counts as empty.
func Watch(ctx context.Context, conn *pgconn.PgConn, settings ...string) (*Guard, error) {
	g := &Guard{conn: conn, query: lookSQL, names: []string{
		"the transaction's start", "the transaction's number", "current_user", "session_user",
		"transaction_read_only", "row_security", "headgate.org",
	}}
	for i, name := range settings {
		g.query += fmt.Sprintf(", pg_catalog.current_setting($%d, true)", i+1)
		g.names = append(g.names, name)
		g.params = append(g.params, []byte(name))
	}
	if conn.TxStatus() != 'T' {
		return nil, errors.New("there is no transaction to guard")
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
	number := g.before[columnNumber]
	if now[columnStart] != g.before[columnStart] || number != "" && now[columnNumber] != number {
		return &EscapedError{Ended: true}
	}
	escaped := &EscapedError{}
	for i := columnUser; i < len(now); i++ {
		if now[i] != g.before[i] {
			escaped.Changed = append(escaped.Changed, fmt.Sprintf("%s was %q and is %q", g.names[i], g.before[i], now[i]))
		}
	}
	if len(escaped.Changed) > 0 {
		return escaped
	}
	return nil
}

func (g *Guard) look(ctx context.Context) ([]string, error) {
	return ask(ctx, g.conn, g.query, g.params, len(g.names))
}

// ask returns the one row of a query. The values are in binary, whose form no
// setting can change; NULL counts as empty.
func ask(ctx context.Context, conn *pgconn.PgConn, query string, params [][]byte, columns int) ([]string, error) {
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

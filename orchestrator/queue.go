package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/headgate/headgate/migrations"
)

// theQueue is where a Client's jobs go: the schema that the central database names,
// and no other that a session's search_path may lead to. An application may have
// tables of River's own in a schema of its own, and calls the Tx methods in sessions
// of its own. Who asks at the same time asks twice.
type theQueue struct {
	compared atomic.Bool                          // the pool's sessions find the same one
	inserter atomic.Pointer[river.Client[pgx.Tx]] // inserts and cancels only
}

const selectQueueSchema = `SELECT schema FROM headgate.queue`

// riverSchema is what River takes for the name of a schema. Others are found by
// search_path alone.
var riverSchema = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// ready compares, once, the queue that the Client's pool finds with the one that is
// there. The error is a *migrations.QueueError or *migrations.VersionError.
func (c *Client) ready(ctx context.Context) error {
	if c.queue.compared.Load() {
		return nil
	}
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reaching the central database: %w", err)
	}
	defer conn.Release()
	if err = speaksUTF8(conn.Conn()); err == nil {
		_, err = migrations.Queue(ctx, conn)
	}
	if err == nil {
		c.queue.compared.Store(true)
	}
	return err
}

// speaksUTF8 refuses a session whose server takes Go's text for another encoding's:
// the worker would read other arguments than were given. It asks nothing, since the
// server tells of each change.
func speaksUTF8(conn *pgx.Conn) error {
	if conn == nil { // a transaction that is no connection's
		return nil
	}
	switch encoding := conn.PgConn().ParameterStatus("client_encoding"); encoding {
	case "UTF8", "SQL_ASCII", "": // SQL_ASCII converts nothing
		return nil
	default:
		return fmt.Errorf("client_encoding of the session to the central database is %s, and Go's text is UTF-8: add client_encoding=UTF8 to the connection string", encoding)
	}
}

// inserts returns River's client for the queue. tx is asked once.
func (c *Client) inserts(ctx context.Context, tx pgx.Tx) (*river.Client[pgx.Tx], error) {
	if err := speaksUTF8(tx.Conn()); err != nil {
		return nil, err
	}
	if known := c.queue.inserter.Load(); known != nil {
		return known, nil
	}
	var schema string
	err := tx.QueryRow(ctx, selectQueueSchema).Scan(&schema)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		_, program := migrations.Versions()
		return nil, &migrations.VersionError{Where: "the central database", Program: program}
	}
	if err != nil {
		return nil, fmt.Errorf("asking which schema holds the queue: %w", err)
	}
	if !riverSchema.MatchString(schema) {
		schema = ""
	}
	inserter, err := river.NewClient(silent{riverpgxv5.New(c.pool)}, &river.Config{Logger: c.log, Schema: schema})
	if err != nil {
		return nil, fmt.Errorf("preparing the queue's client: %w", err)
	}
	c.queue.inserter.Store(inserter)
	return inserter, nil
}

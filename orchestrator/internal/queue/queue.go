package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Config is what a Queue needs. Pool is required: the rooms that make a Queue have
// looked that it is there.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Catalog knows the tenants. A room that neither enqueues nor lists leaves it out.
	Catalog *catalog.Catalog

	// Check says why arguments, JSON already, do not fit a kind, for a job to rerun.
	// nil means that all fit.
	Check func(kind string, args []byte) error

	// Tracer traces enqueues. The zero value traces none.
	Tracer telemetry.Tracer

	// Logger is told of notifications that failed. nil means slog.Default().
	Logger *slog.Logger
}

// Queue is the schema that the central database names, and no other that a session's
// search_path may lead to. An application may have tables of River's own in a schema of
// its own, and calls the Tx methods in sessions of its own. A Queue is safe for
// concurrent use, holds no connection between calls and needs no closing.
type Queue struct {
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	check   func(kind string, args []byte) error // never nil
	log     *slog.Logger
	tracer  telemetry.Tracer
	bell    *bell

	compared atomic.Bool                          // the pool's sessions find the same queue
	inserter atomic.Pointer[river.Client[pgx.Tx]] // inserts and cancels only; two first callers may make it twice
}

// New returns the queue of a central database.
func New(cfg Config) *Queue {
	log, check := cmp.Or(cfg.Logger, slog.Default()), cfg.Check
	if check == nil {
		check = func(string, []byte) error { return nil }
	}
	return &Queue{pool: cfg.Pool, catalog: cfg.Catalog, check: check, log: log, tracer: cfg.Tracer, bell: newBell(cfg.Pool, log)}
}

// silent is River's driver without its notification of an insert: a statement
// more in the transaction, at most once in a cooldown. Ours is in insert.go.
type silent struct{ *riverpgxv5.Driver }

// SupportsListenNotify is called by River.
func (silent) SupportsListenNotify() bool { return false }

// Transact commits what do inserts and wakes the workers of the queues that do notes.
func (q *Queue) Transact(ctx context.Context, do func(tx pgx.Tx, queues Set) error) error {
	return q.bell.transact(ctx, do)
}

// TransactWithin is Transact with limits of its own.
func (q *Queue) TransactWithin(ctx context.Context, limits central.Limits, do func(tx pgx.Tx, queues Set) error) error {
	return q.bell.transactWithin(ctx, limits, do)
}

const selectQueueSchema = `SELECT schema FROM headgate.queue`

// Ready compares, once, the queue that the pool finds with the one that is
// there. The error is a *migrations.QueueError or *migrations.VersionError.
func (q *Queue) Ready(ctx context.Context) error {
	if q.compared.Load() {
		return nil
	}
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reaching the central database: %w", err)
	}
	defer conn.Release()
	if err = speaksUTF8(conn.Conn()); err == nil {
		_, err = migrations.Queue(ctx, conn)
	}
	if err == nil {
		q.compared.Store(true)
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
func (q *Queue) inserts(ctx context.Context, tx pgx.Tx) (*river.Client[pgx.Tx], error) {
	if err := speaksUTF8(tx.Conn()); err != nil {
		return nil, err
	}
	if known := q.inserter.Load(); known != nil {
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
	inserter, err := river.NewClient(silent{riverpgxv5.New(q.pool)}, &river.Config{Logger: q.log, Schema: migrations.RiverSchema(schema)})
	if err != nil {
		return nil, fmt.Errorf("preparing the queue's client: %w", err)
	}
	q.inserter.Store(inserter)
	return inserter, nil
}

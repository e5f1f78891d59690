package worker

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// handlerTx is the transaction as the handler gets it: all of pgx.Tx but its
// ends. It is a connection on which BEGIN was sent along with the statement that
// opens the job; pgx's own transaction, which would send it alone, is made only
// for what needs it.
type handlerTx struct {
	conn *pgx.Conn
	real pgx.Tx
}

var errNotYours = errors.New("a handler may not end its transaction: return nil to commit, an error to roll back")

// Commit refuses.
func (*handlerTx) Commit(context.Context) error { return errNotYours }

// Rollback refuses.
func (*handlerTx) Rollback(context.Context) error { return errNotYours }

// pgxTx is pgx's own transaction on the one that is open: for savepoints and
// large objects. A statement that does nothing stands in for its BEGIN.
func (t *handlerTx) pgxTx(ctx context.Context) (pgx.Tx, error) {
	if t.real != nil {
		return t.real, nil
	}
	var err error
	t.real, err = t.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: "SELECT"})
	return t.real, err
}

// Begin makes a savepoint, which the handler may end as it likes.
func (t *handlerTx) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := t.pgxTx(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Begin(ctx)
}

// LargeObjects is pgx.Tx's. It panics if the connection is broken.
func (t *handlerTx) LargeObjects() pgx.LargeObjects {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tx, err := t.pgxTx(ctx)
	if err != nil {
		panic(err)
	}
	return tx.LargeObjects()
}

func (t *handlerTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return t.conn.CopyFrom(ctx, table, columns, rows)
}

func (t *handlerTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.conn.SendBatch(ctx, b)
}

func (t *handlerTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return t.conn.Prepare(ctx, name, sql)
}

func (t *handlerTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.conn.Exec(ctx, sql, args...)
}

func (t *handlerTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.conn.Query(ctx, sql, args...)
}

func (t *handlerTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.conn.QueryRow(ctx, sql, args...)
}

func (t *handlerTx) Conn() *pgx.Conn { return t.conn }

var _ pgx.Tx = (*handlerTx)(nil)

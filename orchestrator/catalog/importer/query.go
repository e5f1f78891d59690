package importer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
)

// QueryOptions bound and direct the reading of a query.
type QueryOptions struct {
	ReadOptions

	// Timeout bounds each statement on the source, and half of it each wait for a lock, so
	// that the error tells these apart. 0 means a minute.
	Timeout time.Duration

	// Batch is how many rows are fetched at a time. 0 means 1,000.
	Batch int
}

// ReadQuery reads the rows of one SELECT on the SaaS's own database, whose columns have the
// names of an input's. It reads in a transaction that can write nothing, by a cursor, and
// ends the transaction. Values are as to_jsonb makes them, so that arrays, objects, numbers
// and UUIDs arrive as what they are. conn is the caller's, and has nothing open.
func ReadQuery(ctx context.Context, conn *pgx.Conn, query string, opts QueryOptions) (*Table, error) {
	query = strings.TrimRight(query, "; \t\r\n")
	if query == "" {
		return nil, jobs.Inputf("query", "", "it is empty: give one SELECT")
	}
	opts.Timeout, opts.Batch = cmp.Or(opts.Timeout, time.Minute), cmp.Or(opts.Batch, 1000)
	begin := fmt.Sprintf("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d; SET LOCAL idle_in_transaction_session_timeout = %d",
		opts.Timeout.Milliseconds(), max(1, opts.Timeout.Milliseconds()/2), opts.Timeout.Milliseconds())
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", queryError(err))
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has written nothing
	table, err := readCursor(ctx, tx, query, opts)
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", queryError(err))
	}
	return table, nil
}

func readCursor(ctx context.Context, tx pgx.Tx, query string, opts QueryOptions) (*Table, error) {
	columns, err := describe(ctx, tx, query)
	if err != nil {
		return nil, err
	}
	return ReadObjects(ctx, Objects{
		Name: "query", Columns: columns,
		Each: func(ctx context.Context, do func([]byte) error) error { return fetch(ctx, tx, query, opts.Batch, do) },
	}, opts.ReadOptions)
}

// declare stands before the query.
const declare = "DECLARE headgate_import NO SCROLL CURSOR FOR SELECT to_jsonb(q)::text FROM (\n"

// fetch runs the query by a cursor.
func fetch(ctx context.Context, tx pgx.Tx, query string, batch int, do func([]byte) error) error {
	if _, err := tx.Exec(ctx, declare+query+"\n) AS q"); err != nil {
		if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
			pgErr.Position = max(0, pgErr.Position-int32(len(declare)))
		}
		return err
	}
	for {
		rows, _ := tx.Query(ctx, fmt.Sprintf("FETCH %d FROM headgate_import", batch)) // its error is the loop's too
		text := ""
		tag, err := pgx.ForEachRow(rows, []any{&text}, func() error { return do([]byte(text)) })
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
	}
}

// describe returns the columns before there is a row: to_jsonb keeps one of two columns of the
// same name.
func describe(ctx context.Context, tx pgx.Tx, query string) (names []string, err error) {
	described, err := tx.Conn().PgConn().Prepare(ctx, "", query, nil)
	if err != nil {
		return nil, err
	}
	if len(described.ParamOIDs) > 0 {
		return nil, jobs.Inputf("query", "", "it has parameters ($1): write the values")
	}
	for _, field := range described.Fields {
		names = append(names, field.Name)
	}
	return names, nil
}

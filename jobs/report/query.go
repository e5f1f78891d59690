package report

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/internal/sqltext"
	"github.com/headgate/headgate/jobs/telemetry"
)

// query is a prepared query and the values of its parameters.
type query struct {
	conn      *pgconn.PgConn
	statement *pgconn.StatementDescription
	values    [][]byte
}

// prepare has the server parse the query, as the unnamed statement: so it can
// be but one, and whether it returns columns is known before anything runs.
func prepare(ctx context.Context, conn *pgconn.PgConn, args Args) (*query, error) {
	values, err := args.Args.texts()
	if err != nil {
		return nil, jobs.Cancel(fmt.Errorf("report: %w", err))
	}
	statement, err := conn.Prepare(ctx, "", args.Query, nil)
	if err != nil {
		return nil, fmt.Errorf("report: preparing the query: %w", err)
	}
	if len(statement.Fields) == 0 {
		return nil, jobs.Cancel(errors.New("report: the statement returns no columns: write one SELECT"))
	}
	if len(values) != len(statement.ParamOIDs) {
		return nil, jobs.Cancel(fmt.Errorf("report: the query has %s and args %s: give one for each parameter", jobs.Count(len(statement.ParamOIDs), "parameter"), jobs.Count(len(values), "value")))
	}
	return &query{conn: conn, statement: statement, values: values}, nil
}

// bufferBytes is how much of the file is gathered before it is written.
const bufferBytes = 256 << 10

// stream runs the query and writes its rows to out, the names of the columns
// first. It returns the number of rows without that line.
func (q *query) stream(ctx context.Context, out io.Writer) (rows int64, err error) {
	ctx, traced := telemetry.Statement(ctx, q.statement.SQL)
	defer func() { traced(err) }()
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	reader := q.conn.ExecStatement(ctx, q.statement, q.values, nil, nil)
	defer func() {
		if err != nil {
			abandon() // or Close would read what is left, however long that takes
		}
		if tag, closeErr := reader.Close(); err == nil {
			err = checkEnd(tag, q.values, closeErr)
		}
	}()

	lines, record, line := bufio.NewWriterSize(out, bufferBytes), make([]string, len(q.statement.Fields)), []byte(nil)
	numbers := make([]bool, len(record))
	for i, column := range q.statement.Fields {
		record[i], numbers[i] = cell([]byte(column.Name), false), isNumber(column.DataTypeOID)
	}
	line = AppendCSV(line[:0], record)
	if _, err := lines.Write(line); err != nil {
		return 0, &jobs.OutputError{Err: fmt.Errorf("report: writing the file: %w", err)}
	}
	for ; reader.NextRow(); rows++ {
		for i, value := range reader.Values() {
			record[i] = cell(value, numbers[i])
		}
		line = AppendCSV(line[:0], record)
		if _, err := lines.Write(line); err != nil {
			return 0, &jobs.OutputError{Err: fmt.Errorf("report: writing the file: %w", err)}
		}
	}
	if err := lines.Flush(); err != nil {
		return 0, &jobs.OutputError{Err: fmt.Errorf("report: writing the file: %w", err)}
	}
	return rows, nil
}

// checkEnd judges how the query ended. An error that comes of an attempt to
// write ends the job: no further attempt could do better. EXPLAIN ANALYZE CREATE TABLE AS
// is not refused by a read only transaction, so its tag is.
func checkEnd(tag pgconn.CommandTag, values [][]byte, err error) error {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "25006":
		return jobs.Cancel(fmt.Errorf("report: the query tries to write, and a report only reads: %s", refused.Message))
	case err != nil:
		return fmt.Errorf("report: running the query: %w", sqltext.WithoutValues(err, values))
	case !tag.Select():
		return jobs.Cancel(fmt.Errorf("report: a report is one SELECT, not %s", tag))
	}
	return nil
}

// cell returns a value as it stands in the file.
func cell(value []byte, number bool) string {
	if number {
		return string(value)
	}
	return Guard(string(value))
}

// isNumber tells whether values of the type cannot be anything but numbers.
func isNumber(oid uint32) bool {
	switch oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
		return true
	}
	return false
}

package sqlscript

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/jobs/internal/sqltext"
	"github.com/headgate/headgate/jobs/telemetry"
)

// watched are settings that a SQL job may not change besides those that every
// job may not: app.org_id, by which many applications tell their organisations
// apart, and the encoding, since the words of the next statement are read as
// UTF-8.
var watched = []string{"app.org_id", "client_encoding"}

// Run is the handler of the kind, a [jobs.TxHandler].
//
// On success Result.Rows is the number of rows inserted, updated, deleted and
// merged by the statements themselves, without those of a WITH, of triggers and
// of cascades; Result.Output has a line for each statement with Postgres's
// command tag and the number of rows that it returned. Rows returned are drained
// and not kept; one single row is held whole.
//
// What can never work ends the job for good ([jobs.Cancel]): what Check refuses,
// an attempt to end the transaction, a changed context (an [guard.EscapedError]), a
// value that does not fit its parameter. Anything else may be tried again. Each
// statement costs three round trips (parse, run, check), the script two more.
func Run(ctx context.Context, tx pgx.Tx, job *jobs.Job[Args]) error {
	script, err := job.Args.script()
	if err != nil {
		return jobs.Cancel(fmt.Errorf("sqlscript: %w", err))
	}
	conn := tx.Conn().PgConn()
	watch, err := guard.Watch(ctx, conn, watched...)
	if err != nil {
		return fmt.Errorf("sqlscript: %w", err)
	}
	before, err := lookPrepared(ctx, conn)
	if err != nil {
		return fmt.Errorf("sqlscript: %w", err)
	}
	rows, lines := int64(0), make([]string, len(script))
	for i, statement := range script {
		within, traced := telemetry.Statement(ctx, statement.sql)
		end, err := statement.run(within, conn)
		traced(err)
		if err == nil {
			err = watch.Check(ctx)
		} else {
			err = sqltext.WithoutValues(err, statement.values)
		}
		if err != nil {
			return failure(fmt.Sprintf("sqlscript: statement %d", i+1), err)
		}
		rows += end.affected()
		lines[i] = fmt.Sprintf("%d: %s", i+1, end)
	}
	if err := before.check(ctx, conn); err != nil {
		return failure("sqlscript", err)
	}
	job.Result.Rows, job.Result.Output = rows, strings.Join(lines, "\n")
	return nil
}

// statement is a checked Statement: one command, its values in text form, and
// their types, 0 where Postgres infers.
type statement struct {
	sql    string
	values [][]byte
	oids   []uint32
}

// ending is how a statement ended.
type ending struct {
	tag     pgconn.CommandTag
	returns bool  // rows, be they none
	rows    int64 // that it returned
}

// countError says that the number of values is wrong.
type countError struct{ want, got int }

func (e *countError) Error() string {
	return fmt.Sprintf("the text has %s and %s given: give one for each", jobs.Count(e.want, "parameter"), jobs.CountVerb(e.got, "value", "is", "are"))
}

// run has the server parse the text, as the unnamed statement, which can be but
// one command, and then runs it.
func (s statement) run(ctx context.Context, conn *pgconn.PgConn) (ending, error) {
	prepared, err := conn.Prepare(ctx, "", s.sql, s.oids)
	if err != nil {
		return ending{}, err
	}
	if len(prepared.ParamOIDs) != len(s.values) {
		return ending{}, &countError{want: len(prepared.ParamOIDs), got: len(s.values)}
	}
	end := ending{returns: prepared.Fields != nil}
	reader := conn.ExecStatement(ctx, prepared, s.values, nil, nil)
	for reader.NextRow() {
		end.rows++
	}
	end.tag, err = reader.Close()
	return end, err
}

// affected is the number of rows that the statement wrote. The tag of a query
// counts what it read, unless the rows went into a table.
func (e ending) affected() int64 {
	if e.returns && e.tag.Select() {
		return 0
	}
	return e.tag.RowsAffected()
}

// String is "INSERT 0 3", "SELECT 5", "EXPLAIN, 4 rows returned".
func (e ending) String() string {
	if e.returns && !e.tag.Select() {
		return fmt.Sprintf("%s, %s returned", e.tag, jobs.Count(e.rows, "row"))
	}
	return e.tag.String()
}

// badParam finds the parameter's number in the last line of an error's context,
// whatever its language: unnamed portal parameter $2 = '...'.
var badParam = regexp.MustCompile(`(?:^|\n)[^"\n]* \$([0-9]+) = [^\n]*$`)

// failure says which statement failed, and ends the job where no other attempt
// can do better. In a job's own statement 25006 is of the job's making, since a
// server that takes no writes had refused the ledger's row before; to the worker
// the bare code would mean the server.
func failure(name string, err error) error {
	var escaped *guard.EscapedError
	var count *countError
	var refused *pgconn.PgError
	if errors.As(err, &escaped) || errors.As(err, &count) {
		return jobs.Cancel(fmt.Errorf("%s: %w", name, err))
	}
	if !errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch found := badParam.FindStringSubmatch(refused.Where); {
	case refused.Code == "42601" && refused.Routine == "exec_parse_message":
		return jobs.Cancel(fmt.Errorf(`%s: the text holds more than one command, and transaction control is not allowed in a SQL job: give each command its own entry in "statements": %w`, name, err))
	case refused.Code == "2D000":
		return jobs.Cancel(fmt.Errorf("%s: transaction control is not allowed in a SQL job: remove COMMIT and ROLLBACK from the block or procedure: %w", name, err))
	case refused.Code == "25006":
		return jobs.Cancel(fmt.Errorf("%s: the transaction is read only: %s", name, refused.Message))
	case found != nil && strings.HasPrefix(refused.Code, "22"):
		return jobs.Cancel(fmt.Errorf("%s, parameter %s: %w", name, found[1], err))
	}
	return fmt.Errorf("%s: %w", name, err)
}

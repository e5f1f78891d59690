package importer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
)

// sourceError is a sentence of its own about what the source's server has said, whose words may
// hold values of rows.
type sourceError struct {
	says  string
	cause *pgconn.PgError
}

func (e *sourceError) Error() string { return e.says + " (" + e.cause.Code + ")" }

func (e *sourceError) Unwrap() error { return e.cause }

// refusedQueries are what to do about a query that Postgres does not run, by SQLSTATE. The
// messages of these have names of the query in them, and no value of a row.
var refusedQueries = map[string]string{
	"42P01": "; name a table that this database has, with its schema where that is not in the login's search_path",
	"3F000": "; name a schema that this database has",
	"42703": "; name a column that its tables have",
	"42883": "; cast its values to types that this function or operator takes",
	"42804": "; cast its values to one type",
	"42601": "; give one SELECT",
	"0A000": "; give one SELECT",
}

// failedReads are what became of a query that ran, and what to do, by SQLSTATE or its class.
var failedReads = map[string]string{
	"57014": "the query took longer than it may, or somebody cancelled it: make it faster, or raise --source-timeout",
	"55P03": "a table of the query was locked by somebody else for half of the time that a statement may take: run the command again, or raise --source-timeout",
	"25P03": "the query's transaction had waited for longer than it may: run the command again, or raise --source-timeout",
	"40001": "the source cancelled the query, as a replica does whose primary has removed rows that the query reads: run the command again, or give the primary's address",
	"22":    "a value of a row does not fit a cast or a function of the query, and is not repeated, because it may be a customer's: find it with psql, and change it, or the query",
	"53":    "the source's server is short of connections, memory or disk: run the command again when it has some",
	"54":    "the query is too large or too complex for the source's server: make it smaller",
	"57":    "the source's server ended the connection: run the command again when it is up",
	"08":    "the connection to the source was lost: run the command again",
}

// queryError is what the server says of the query, in one sentence with its SQLSTATE and what to
// do. Its detail, and the messages of errors that rows cause, may hold values of rows.
func queryError(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	next, refused := refusedQueries[pgErr.Code]
	switch {
	case pgErr.Code == "25006":
		return jobs.Inputf("query", "", "it writes; give one SELECT")
	case pgErr.Code == "42501":
		return &sourceError{"query: the source's login may not read this: " + pgErr.Message + "; have its owner GRANT SELECT (and USAGE on its schema) TO that login, or give another login", pgErr}
	case refused || strings.HasPrefix(pgErr.Code, "42"):
		at := ""
		if pgErr.Position > 0 {
			at = fmt.Sprintf(", at character %d", pgErr.Position)
		}
		return jobs.Inputf("query", "", "Postgres refuses it%s: %s (%s)%s", at, pgErr.Message, pgErr.Code, next)
	}
	for _, code := range []string{pgErr.Code, pgErr.Code[:min(2, len(pgErr.Code))]} {
		if says, known := failedReads[code]; known {
			return &sourceError{says, pgErr}
		}
	}
	return &sourceError{"query: the source's server could not run it, and why is in that server's log", pgErr}
}

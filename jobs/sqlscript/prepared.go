package sqlscript

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs/guard"
)

// prepared is what stands on a connection besides its settings and is not taken
// away when the next job gets it: statements prepared by name.
type prepared struct {
	own     bool // some of the program's
	planted bool // some by SQL: the next job would run one that has the right name
}

// preparedSQL costs more than the guard's own query, so it is asked only when a
// script begins and when it is done.
const preparedSQL = `
SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE NOT from_sql),
       EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)`

func lookPrepared(ctx context.Context, conn *pgconn.PgConn) (prepared, error) {
	answer, err := guard.Ask(ctx, conn, preparedSQL, nil, 2)
	if err != nil {
		return prepared{}, err
	}
	const yes = "\x01" // true, in binary
	return prepared{own: answer[0] == yes, planted: answer[1] == yes}, nil
}

// check returns an *guard.EscapedError if the script has changed them.
func (before prepared) check(ctx context.Context, conn *pgconn.PgConn) error {
	now, err := lookPrepared(ctx, conn)
	switch {
	case err != nil:
		return err
	case now.planted && !before.planted:
		return &guard.EscapedError{Changed: []string{"a statement prepared by SQL was left on the connection"}}
	case before.own && !now.own:
		return &guard.EscapedError{Changed: []string{"the connection's prepared statements were dropped"}}
	}
	return nil
}

package maintenance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/headgate/headgate/jobs/telemetry"
)

// cancelTimeout bounds telling a server that its statement is not wanted any
// more.
const cancelTimeout = 5 * time.Second

// exec runs one statement that returns no rows and returns the warnings that
// the server sent with it. pgx hands warnings to a callback that is set before
// the connection is made; reading the protocol's messages here works on any
// connection, and the callback is called as well.
//
// When ctx ends the statement is cancelled on the server and the connection is
// closed.
func exec(ctx context.Context, conn *pgx.Conn, sql string) (_ []*pgconn.PgError, err error) {
	ctx, traced := telemetry.Statement(ctx, sql)
	defer func() { traced(err) }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pg := conn.PgConn()
	pg.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := pg.Frontend().Flush(); err != nil {
		return nil, fmt.Errorf("sending the statement: %w", err)
	}
	var failure error
	warnings := []*pgconn.PgError(nil)
	for {
		message, err := pg.ReceiveMessage(ctx)
		if err != nil {
			abandon(ctx, conn)
			return nil, err
		}
		switch message := message.(type) {
		case *pgproto3.NoticeResponse:
			notice := pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(message))
			if notice.SeverityUnlocalized == "WARNING" {
				warnings = append(warnings, notice)
			}
		case *pgproto3.ErrorResponse:
			failure = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.ReadyForQuery:
			return warnings, failure
		}
	}
}

// abandon gives up a connection in the middle of a statement. ctx may have
// ended.
func abandon(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	_ = conn.PgConn().CancelRequest(ctx)
	_ = conn.Close(ctx)
}

// isSkip tells whether a warning of ANALYZE or VACUUM says that a table was left
// out. The code of most is only "warning" (01000), and the text is in the server's
// language and its version's words. The functions of Postgres that the warning comes
// from are the same from 14 to 18, but for the right that vacuum_is_… asks for.
func isSkip(warning *pgconn.PgError) bool {
	switch warning.Routine {
	case "vacuum_open_relation", "vacuum_rel", "analyze_rel":
		return true
	}
	return strings.HasPrefix(warning.Routine, "vacuum_is_")
}

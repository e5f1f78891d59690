package tenantdb

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// conn is one connection and what it is good for.
type conn struct {
	*pgx.Conn
	key     key
	version int       // of the address that it was made to
	used    time.Time // when it came back last
}

// resetSQL takes away every kind of state that a session can carry to its next
// user, in one round trip, and tells whether statements prepared by SQL are
// left, which it does not take away: DEALLOCATE ALL and DISCARD ALL would also
// drop those that pgx has prepared and still believes in.
const resetSQL = `
RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES;
SELECT pg_catalog.pg_advisory_unlock_all(), EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)`

// reset reports whether the connection is fit for its next user.
func (c *conn) reset() bool {
	if c.IsClosed() || c.PgConn().TxStatus() != 'I' {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	results, err := c.PgConn().Exec(ctx, resetSQL).ReadAll()
	if err != nil || len(results) == 0 {
		return false
	}
	last := results[len(results)-1]
	return len(last.Rows) == 1 && string(last.Rows[0][1]) == "f"
}

// alive asks a connection that has been idle for a while.
func (c *conn) alive(ctx context.Context) bool {
	if time.Since(c.used) < time.Second {
		return !c.IsClosed()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Ping(ctx) == nil
}

const (
	goodbye = time.Second     // for a server to end an idle session
	cleanup = 4 * time.Second // for what a cancelled statement left to be gone
)

// end closes the connection and waits, within a bound, until the server has
// ended its session too: only then is its place in the budget free. A statement
// that still runs is cancelled.
func (c *conn) end() {
	pg := c.PgConn()
	if !pg.IsClosed() {
		if raw, err := pg.Hijack(); err == nil {
			_ = raw.Conn.SetDeadline(time.Now().Add(goodbye)) // closing is all that is left
			raw.Frontend.Send(&pgproto3.Terminate{})
			if raw.Frontend.Flush() == nil {
				_, _ = io.Copy(io.Discard, raw.Conn)
			}
			_ = raw.Conn.Close()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), goodbye)
		defer cancel()
		_ = pg.CancelRequest(ctx)
		_ = c.Close(ctx)
	}
	timeout := time.NewTimer(cleanup)
	defer timeout.Stop()
	select {
	case <-pg.CleanupDone(): // pgx cancels and drains what a context has ended
	case <-timeout.C:
	}
}

package tenantdb

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// canceller ends a statement whose caller's time is up, as pgx's own
// CancelRequestContextWatcherHandler does, and waits for the answer to the request
// also when the statement has ended meanwhile: PgBouncer (1.18 to 1.24 at least,
// its issue 801) ends with a FATAL error when who asked has hung up before, and
// with it everybody's connections.
type canceller struct {
	conn *pgconn.PgConn
	wait time.Duration // for the server to end the statement; then the connection is given up
	done chan struct{} // closed when the request was answered
}

// delivered is how long Postgres may take to pass on a request that it has taken,
// as in pgx: the next statement on the connection would be hit by it.
const delivered = 100 * time.Millisecond

// HandleCancel is called by pgx when the context of a statement has ended.
func (c *canceller) HandleCancel(context.Context) {
	deadline := time.Now().Add(c.wait)
	_ = c.conn.Conn().SetDeadline(deadline) // a closed connection needs none
	done := make(chan struct{})
	c.done = done
	go func() { //nolint:gosec // it ends with the deadline, not with the context that has just ended
		defer close(done)
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		_ = c.conn.CancelRequest(ctx) // who does not answer it loses the connection by the deadline
		<-time.After(delivered)
	}()
}

// HandleUnwatchAfterCancel is called by pgx when that statement is over.
func (c *canceller) HandleUnwatchAfterCancel() {
	<-c.done
	_ = c.conn.Conn().SetDeadline(time.Time{})
}

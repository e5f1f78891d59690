package tenantdb

import (
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// NewCanceller is what ends the statements of a connection.
func NewCanceller(conn *pgconn.PgConn, wait time.Duration) ctxwatch.Handler {
	return &canceller{conn: conn, wait: wait}
}

// Freeze ends what a Pools does by itself, as in a process that is stopped.
func Freeze(p *Pools) {
	p.stop()
	<-p.done
}

// CloseIdle is one pass that closes what lapsed.
func CloseIdle(p *Pools) { p.closeIdle(time.Time{}) }

// Misjudge is as if a clock had been set since a connection was made.
func Misjudge(c *Conn, by time.Duration) { c.signer.ahead += by }

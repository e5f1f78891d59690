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

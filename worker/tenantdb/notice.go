package tenantdb

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const noticesKey = "headgate.notices"

// maxNotices bounds what one borrowing keeps; a loop of RAISE NOTICE must not
// eat the worker's memory.
const maxNotices = 1000

// collectNotice keeps a server's notices with the connection, for handlers to
// whom a WARNING is a failure.
func collectNotice(conn *pgconn.PgConn, notice *pgconn.Notice) {
	data := conn.CustomData()
	kept, _ := data[noticesKey].([]*pgconn.Notice)
	if len(kept) < maxNotices {
		data[noticesKey] = append(kept, notice)
	}
}

// TakeNotices returns the notices that the server has sent on conn since the
// last call, and forgets them. Not safe for concurrent use, as the connection.
func TakeNotices(conn *pgx.Conn) []*pgconn.Notice {
	data := conn.PgConn().CustomData()
	kept, _ := data[noticesKey].([]*pgconn.Notice)
	delete(data, noticesKey)
	return kept
}

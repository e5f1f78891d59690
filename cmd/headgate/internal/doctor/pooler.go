package doctor

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

const selectBackend = `SELECT pg_catalog.pg_backend_pid()`

// detectPooler says what two connections to the same place are connected to.
//
// A pooler cannot tell a client the number of its session when it logs in, since
// there is none yet: it makes one up, and the server, asked later, says another.
// That tells any pooler from none. In transaction mode, and only there, two
// connections that take turns are seen on the same session, or one of them on
// two.
func detectPooler(ctx context.Context, a, b *pgx.Conn) (address.Pooler, error) {
	first, err := backendOf(ctx, a)
	if err != nil || first == a.PgConn().PID() {
		return address.NoPooler, err
	}
	for range 3 {
		moved, err := takeTurns(ctx, a, b, first)
		if err != nil {
			return "", err
		}
		if moved {
			return address.TransactionPooler, nil
		}
	}
	return address.SessionPooler, nil
}

// takeTurns holds a session on b, looks at a's, and gives b's back.
func takeTurns(ctx context.Context, a, b *pgx.Conn, first uint32) (moved bool, err error) {
	tx, err := b.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // it has only looked
	var theirs uint32
	if err := tx.QueryRow(ctx, selectBackend).Scan(&theirs); err != nil {
		return false, err
	}
	now, err := backendOf(ctx, a)
	return theirs == first || now != first, err
}

func backendOf(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, selectBackend).Scan(&pid)
	return pid, err
}

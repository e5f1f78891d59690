package tenantdb

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Conn is one connection as [Pools.With] lends it.
type Conn struct {
	*pgx.Conn
	wire    *wire
	signer  signer
	key     key
	version int       // of the address that it was made to
	used    time.Time // when it came back last
	asked   bool      // its user has asked for a reset
	clean   bool      // and it succeeded
	retired bool      // it was idle, and is being closed
	lent    bool      // a job outside a transaction has had it: see Lend
	ends    string    // idle_session_timeout while it is idle, in milliseconds

	pins   string        // what RESET ALL would undo of its settings
	pooled bool          // through a pooler in transaction mode
	place  address.Place // where it leads, for pooled ones
	centre Mark          // of the centre, when the database's was compared with it last
	looked time.Time     // when that was
}

// resetSQL takes away every kind of state that a session can carry to its next
// user. DEALLOCATE ALL and DISCARD ALL are not in it, since they would also drop
// the statements that pgx has prepared and still believes in.
var resetSQL = []string{
	"RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL", "CLOSE ALL", "UNLISTEN *", "DISCARD TEMP", "DISCARD SEQUENCES",
}

// Lend notes that a job is to have the session itself, which then has a context that
// outlives a transaction. The reset takes that away.
func (c *Conn) Lend() { c.lent = true }

// resets is resetSQL, and what the session has had besides.
func (c *Conn) resets() []string {
	if c.pins == "" && !c.lent {
		return resetSQL
	}
	resets := slices.Clone(resetSQL)
	if c.pins != "" { // RESET ALL has undone them
		resets = append(resets, c.pins)
	}
	if c.lent {
		resets = append(resets, "SELECT headgate.end_session()")
	}
	return resets
}

// leftSQL gives up session locks and tells whether statements prepared by SQL
// are left, which nothing above takes away. From then on the server ends the session
// when nobody has used it for so many milliseconds ($1): its process may be frozen,
// and the place in the budget is needed. A job's transaction is not idle; a kind that
// works outside of one begins with a timeout of 0.
const leftSQL = `
SELECT pg_catalog.pg_advisory_unlock_all(), EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql),
       pg_catalog.set_config('idle_session_timeout', $1, false)`

// QueueReset adds to a batch what makes the connection fit for its next user,
// and saves With a round trip; through a pooler there is no other way to reach
// the session. Call it for the last batch on the connection only, and Reset with the batch's results, behind those of all that is before.
func (c *Conn) QueueReset(b *pgx.Batch) {
	c.asked = true
	for _, sql := range c.resets() {
		b.Queue(sql)
	}
	if c.pooled {
		b.Queue(leftPooledSQL)
	} else {
		b.Queue(leftSQL, c.ends)
	}
}

// Reset reads the results of QueueReset's statements. An error means only that
// the connection is not fit for anybody else, and With sees to that.
func (c *Conn) Reset(results pgx.BatchResults) {
	for range c.resets() {
		if _, err := results.Exec(); err != nil {
			return
		}
	}
	var planted bool
	dest := []any{nil, &planted, nil}
	if c.pooled {
		dest = dest[:2]
	}
	err := results.QueryRow().Scan(dest...)
	c.clean = err == nil && !planted
}

// reset reports whether the connection is fit for its next user.
func (c *Conn) reset() bool {
	if c.IsClosed() || c.PgConn().TxStatus() != 'I' {
		return false
	}
	if !c.clean && !c.pooled {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b := &pgx.Batch{}
		c.QueueReset(b)
		results := c.SendBatch(ctx, b)
		c.Reset(results)
		if results.Close() != nil {
			return false
		}
	}
	clean := c.clean || c.pooled && !c.asked // nobody's handler had it
	c.asked, c.clean, c.lent = false, false, false
	return clean
}

// alive asks a connection that has been idle for a while: the server may have ended
// it meanwhile.
func (c *Conn) alive(ctx context.Context, trusted time.Duration) bool {
	if time.Since(c.used) < trusted {
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
func (c *Conn) end() {
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

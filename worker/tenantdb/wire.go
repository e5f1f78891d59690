package tenantdb

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// wire is what is known of a connection below its statements, whoever sends
// them: which errors the server has sent on this very connection, and how long
// it was left idle. An error alone does not tell where it came from: a handler
// may hold connections to other databases.
type wire struct {
	clock *clock
	made  atomic.Bool  // what is dialled from now on only asks to cancel a statement
	heard atomic.Int64 // when the server's last word came; 0 after a statement was sent
	pause atomic.Int64 // the longest time from such a word to a statement, since the connection was lent

	mu     sync.Mutex
	errors []pgconn.PgError // guarded by mu: the last of them since the connection was lent
}

// mostErrors bounds what is kept of a handler that goes on after errors.
const mostErrors = 16

// lend begins to watch for a new user.
func (w *wire) lend() {
	w.heard.Store(0)
	w.pause.Store(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors = nil
}

// hear notes an error that the server has sent. It returns false if the session
// is over by it. The severity is compared as the protocol has it: the other one
// is in the server's language.
func (w *wire) hear(_ *pgconn.PgConn, err *pgconn.PgError) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errors) == mostErrors {
		w.errors = slices.Delete(w.errors, 0, 1)
	}
	w.errors = append(w.errors, *err)
	return !fatal(err)
}

// said reports whether the server has sent this error on this connection.
func (w *wire) said(err *pgconn.PgError) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.errors, *err)
}

// dial watches the connection that dialFunc makes.
func (w *wire) dial(dialFunc pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialFunc(ctx, network, addr)
		if err != nil || w.made.Load() {
			return conn, err
		}
		return &watched{Conn: conn, wire: w}, nil
	}
}

// watched is a connection's socket.
type watched struct {
	net.Conn
	wire *wire
}

func (c *watched) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.wire.heard.Store(c.wire.clock.read())
	}
	return n, err
}

func (c *watched) Write(b []byte) (int, error) {
	if heard := c.wire.heard.Swap(0); heard != 0 {
		c.wire.pause.Store(max(c.wire.pause.Load(), c.wire.clock.read()-heard))
	}
	return c.Conn.Write(b)
}

// clock counts the time for which this process was awake. A goroutine of its Pools moves
// it on at each tick, by mostAwake at most. So for a process that is stopped and goes on
// hardly any time has passed, whereas every other clock says how long it was away.
type clock struct {
	now func() time.Time

	mu    sync.Mutex
	awake time.Duration // guarded by mu, as is the rest; as of the last tick
	at    time.Time     // of the last tick; zero before the first
}

const (
	tick      = 250 * time.Millisecond
	mostAwake = time.Second // of the time between two ticks: more is not a busy machine's
)

// tick moves the clock on.
func (c *clock) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.awake, c.at = c.awake+c.since(now), now
}

// read is how long the process has been awake, and never 0. The time since the last tick
// counts, because a busy machine's ticks come late.
func (c *clock) read() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.awake+c.since(c.now())) + 1
}

// since is how long the process was awake between the last tick and now.
func (c *clock) since(now time.Time) time.Duration {
	if c.at.IsZero() {
		return 0
	}
	return min(max(now.Sub(c.at), 0), mostAwake)
}

// Said reports whether the server has sent this error on this connection since
// it was lent.
func (c *Conn) Said(err *pgconn.PgError) bool { return c.wire.said(err) }

// Idled returns whether the connection was left idle between two statements since it
// was lent, by a process that was awake. The server has ended it after d. Half of d is
// enough, because a busy machine takes pieces of the time away.
func (c *Conn) Idled(d time.Duration) bool {
	return time.Duration(c.wire.pause.Load()) >= d/2
}

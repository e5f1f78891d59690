package tenantdb

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// wire is what is known of a connection below its statements, whoever sends
// them: which errors the server has sent on this very connection, how the server
// ended it, and how long it was left idle then. An error alone does not tell where it
// came from: a handler may hold connections to other databases.
type wire struct {
	clock *clock
	made  atomic.Bool // what is dialled from now on only asks to cancel a statement

	mu     sync.Mutex       // guards the rest
	errors []pgconn.PgError // the last of them since the connection was lent
	forgot bool             // there were more
	heard  int64            // when the answer to the last statement began; 0 before
	reads  int              // of that answer
	pause  int64            // from such a beginning to the last statement, or to the end
	tail   []byte           // the end of what was read last
	ended  string           // the SQLSTATE with which the server has ended the session
}

// MostErrors bounds what is kept of a handler that goes on after errors.
const MostErrors = 16

// lend begins to watch for a new user.
func (w *wire) lend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors, w.forgot, w.heard, w.reads, w.pause, w.tail, w.ended = nil, false, 0, 0, 0, w.tail[:0], ""
}

// hear notes an error that the server has sent. It returns false if the session
// is over by it. The severity is compared as the protocol has it: the other one
// is in the server's language.
func (w *wire) hear(_ *pgconn.PgConn, err *pgconn.PgError) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errors) == MostErrors {
		w.errors, w.forgot = slices.Delete(w.errors, 0, 1), true
	}
	w.errors = append(w.errors, *err)
	if fatal(err) {
		w.over(err.Code)
	}
	return !fatal(err)
}

// over notes that the server has ended the session. Its word is the first thing that is
// read after a statement, or it comes unasked. w.mu is held.
func (w *wire) over(code string) {
	if w.ended != "" {
		return
	}
	if w.ended = code; w.reads > 1 {
		w.pause = w.clock.read() - w.heard
	}
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
		c.wire.read(b[:n])
	}
	return n, err
}

func (w *wire) read(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail[:0], b[max(len(b)-mostTail, 0):]...)
	if w.reads++; w.heard == 0 {
		w.heard = w.clock.read()
	}
}

func (c *watched) Write(b []byte) (int, error) {
	c.wire.write()
	n, err := c.Conn.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		c.lastWords()
	}
	return n, err
}

func (w *wire) write() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heard != 0 && w.ended == "" {
		w.pause = w.clock.read() - w.heard
	}
	w.heard, w.reads = 0, 0
}

const (
	lastWordsFor  = 100 * time.Millisecond
	mostLastWords = 1 << 20
	mostTail      = 512
)

// fatalWords are the fields of a server's error that ends the session.
var fatalWords = regexp.MustCompile(`V(?:FATAL|PANIC)\x00C([0-9A-Z]{5})\x00`)

// lastWords looks for what the server has said before it closed the connection. After a
// statement that could not be sent nobody else looks for that: neither in the socket, nor
// behind the last answer, with which it may have been read. Behind TLS it is not readable;
// but there the first statement after the end can be sent, and the answer is read.
func (c *watched) lastWords() {
	_ = c.SetReadDeadline(time.Now().Add(lastWordsFor)) // without one the read fails
	said, _ := io.ReadAll(io.LimitReader(c.Conn, mostLastWords))
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if found := fatalWords.FindSubmatch(append(c.wire.tail, said...)); found != nil {
		c.wire.over(string(found[1]))
	}
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

// Errors returns the errors that the server has sent on this connection since it was lent,
// the last [MostErrors] of them, and whether there were more.
func (c *Conn) Errors() (errors []*pgconn.PgError, forgot bool) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	errors = make([]*pgconn.PgError, len(c.wire.errors))
	for i := range c.wire.errors {
		said := c.wire.errors[i]
		errors[i] = &said
	}
	return errors, c.wire.forgot
}

// idleInTransaction is the SQLSTATE with which a server ends a session whose transaction
// was idle for too long.
const idleInTransaction = "25P03"

// Idled returns whether the server has ended the session because its transaction was
// idle for d, while this process was awake. Half of d awake is enough, because a busy
// machine takes pieces of the time away.
func (c *Conn) Idled(d time.Duration) bool {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	return c.wire.ended == idleInTransaction && time.Duration(c.wire.pause) >= d/2
}

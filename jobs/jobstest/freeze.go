package jobstest

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// FreezeWriting is FreezeReading for a process that stops before it has sent all of what
// begins with statement: the first message goes out, and nothing behind that.
func FreezeWriting(t testing.TB, like *pgxpool.Pool, statement string) (pool *pgxpool.Pool, frozen func()) {
	t.Helper()
	return freeze(t, like, &stops{statement: []byte(statement), writing: true})
}

// FreezeReading returns a pool whose connections stop reading, as those of a stopped
// process do, when they have read 20 KiB of the answer to what contains statement.
// frozen returns when one has, and fails the test after a minute. All go on at the end of
// the test, and the pool is closed.
func FreezeReading(t testing.TB, like *pgxpool.Pool, statement string) (pool *pgxpool.Pool, frozen func()) {
	t.Helper()
	return freeze(t, like, &stops{statement: []byte(statement)})
}

func freeze(t testing.TB, like *pgxpool.Pool, s *stops) (pool *pgxpool.Pool, frozen func()) {
	t.Helper()
	s.stopped, s.thaw = make(chan struct{}), make(chan struct{})
	cfg := like.Config().Copy()
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &stopping{Conn: conn, stops: s}, nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(s.thaw)
		pool.Close()
	})
	return pool, func() {
		t.Helper()
		select {
		case <-s.stopped:
		case <-time.After(time.Minute):
			t.Fatal("nothing stopped in a minute")
		}
	}
}

type stops struct {
	statement     []byte
	writing       bool
	armed         atomic.Bool
	once          sync.Once
	stopped, thaw chan struct{}
}

type stopping struct {
	net.Conn
	*stops
	read atomic.Int64 // since the last write; pgx may write and read at once
}

func (c *stopping) Write(b []byte) (int, error) {
	c.read.Store(0)
	if c.writing && c.armed.Load() {
		c.stop()
	}
	if bytes.Contains(b, c.statement) {
		c.armed.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *stopping) Read(b []byte) (int, error) {
	if !c.writing && c.armed.Load() && c.read.Load() >= 20<<10 {
		c.stop()
	}
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

func (s *stops) stop() {
	s.once.Do(func() { close(s.stopped) })
	<-s.thaw
}

// A process that is stopped has no deadlines.
func (c *stopping) SetDeadline(time.Time) error      { return nil }
func (c *stopping) SetReadDeadline(time.Time) error  { return nil }
func (c *stopping) SetWriteDeadline(time.Time) error { return nil }

// Package conns bounds the connections of an HTTP server so that nobody keeps others out by
// holding connections open: where one too many comes, the one that has waited longest without
// a request is closed.
package conns

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Bound makes the server keep at most so many connections of listener open, and returns the
// listener that the server must serve. It replaces the server's ConnContext and wraps the
// server's Handler, which must be set.
//
// Where most are open and another one comes, the oldest that no handler is at work for is
// closed. Where handlers are at work for all, the oldest is.
func Bound(server *http.Server, listener net.Listener, most int) net.Listener {
	next := server.Handler
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(key{}).(*conn); ok {
			c.busy.Store(true)
			defer c.busy.Store(false)
		}
		next.ServeHTTP(w, r)
	})
	return &bounded{Listener: listener, most: max(most, 1)}
}

type key struct{}

// bounded is a listener that knows which of its connections are open.
type bounded struct {
	net.Listener
	most int

	mu   sync.Mutex
	open list.List // of *conn, the oldest first; guarded by mu
}

// Accept waits for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	accepted, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, of: b}
	if oldest := b.admit(c); oldest != nil {
		_ = oldest.Conn.Close() // its peer is told nothing
	}
	return c, nil
}

// admit adds a connection, and returns the one that has to go for it.
func (b *bounded) admit(c *conn) (oldest *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Len() >= b.most {
		oldest = b.oldest()
		b.open.Remove(oldest.at)
	}
	c.at = b.open.PushBack(c)
	return oldest
}

func (b *bounded) oldest() *conn {
	for at := b.open.Front(); at != nil; at = at.Next() {
		if c, _ := at.Value.(*conn); !c.busy.Load() { // each is one
			return c
		}
	}
	c, _ := b.open.Front().Value.(*conn)
	return c
}

// conn is an open connection.
type conn struct {
	net.Conn
	of   *bounded
	at   *list.Element // guarded by of.mu
	busy atomic.Bool   // a handler is at work for it
}

// Close ends the connection.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.open.Remove(c.at) // nothing, if it is gone
	c.of.mu.Unlock()
	return c.Conn.Close()
}

package main

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// wire stands before the test server, and does something to the client at one of the
// messages that pass: when the client has sent it and the server has not got it, or when
// the server has answered and the client has not got the answer.
type wire struct {
	host string
	port uint16

	backend string // of the server
	network string

	mu       sync.Mutex
	sent     int    // messages of all clients
	at       int    // the message at which strike is called; 0: none
	answered bool   // the server is to get it
	strike   func() // called once
	goesOn   bool   // everything passes also after that
	conns    []net.Conn
	heard    bytes.Buffer // all that clients have sent
}

func newWire(t *testing.T) *wire {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(jobstest.ServerURL(t, "postgres"))
	require.NoError(t, err)
	w := &wire{port: cfg.ConnConfig.Port, network: "unix", host: t.TempDir()}
	w.backend = fmt.Sprintf("%s:%d", cfg.ConnConfig.Host, w.port)
	listen := filepath.Join(w.host, fmt.Sprintf(".s.PGSQL.%d", w.port))
	if strings.HasPrefix(cfg.ConnConfig.Host, "/") {
		w.backend = filepath.Join(cfg.ConnConfig.Host, fmt.Sprintf(".s.PGSQL.%d", w.port))
	} else {
		w.network, w.host, listen = "tcp", "127.0.0.1", "127.0.0.1:0"
	}
	l, err := net.Listen(w.network, listen)
	require.NoError(t, err)
	if at, tcp := l.Addr().(*net.TCPAddr); tcp {
		w.port = uint16(at.Port)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.hangUp()
		all.Wait()
	})
	return w
}

// arm lets strike be called at a message of those to come.
func (w *wire) arm(at int, answered bool, strike func()) {
	defer w.mu.Unlock()
	w.mu.Lock()
	w.sent, w.at, w.answered, w.strike = 0, at, answered, strike
}

// passOn lets everything pass also after a strike.
func (w *wire) passOn() {
	defer w.mu.Unlock()
	w.mu.Lock()
	w.goesOn = true
}

// seen is how many messages there were since arm.
func (w *wire) seen() int {
	defer w.mu.Unlock()
	w.mu.Lock()
	return w.sent
}

// hangUp ends all connections.
func (w *wire) hangUp() {
	defer w.mu.Unlock()
	w.mu.Lock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

func (w *wire) serve(client net.Conn) {
	defer func() { _ = client.Close() }() // it may be closed
	server, err := net.Dial(w.network, w.backend)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w.mu.Lock()
	w.conns = append(w.conns, client, server)
	w.mu.Unlock()
	var last atomic.Bool // the answer to what was sent last is not for the client
	var back sync.WaitGroup
	back.Go(func() {
		defer func() { _ = client.Close() }()
		w.answers(client, server, &last)
	})
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			_ = server.Close()
			break
		}
		hit, answered := w.message(buffer[:n])
		if hit && !answered {
			w.hit()
			break
		}
		last.Store(hit)
		if _, err := server.Write(buffer[:n]); err != nil {
			break
		}
	}
	_ = server.Close()
	back.Wait()
}

// readyForQuery is how an answer ends; one to a login is a message of its own.
var readyForQuery = []byte{'Z', 0, 0, 0, 5}

const authentication = 'R'

func (w *wire) answers(client, server net.Conn, last *atomic.Bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if last.Load() && (err != nil || n < 6 || buffer[0] == authentication || bytes.Contains(buffer[:n], readyForQuery)) {
			w.hit() // the end of the session is an answer too
			return
		}
		if err != nil {
			return
		}
		if !last.Load() {
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

// message counts one, and says whether it is the one, and whether it is to be answered. If
// everything goes on, it strikes itself.
func (w *wire) message(sent []byte) (hit, answered bool) {
	w.mu.Lock()
	w.heard.Write(sent)
	w.sent++
	hit, answered = w.sent == w.at, w.answered
	goesOn, strike := w.goesOn, w.strike
	w.mu.Unlock()
	if hit && goesOn {
		strike()
		return false, false
	}
	return hit, answered
}

func (w *wire) hit() {
	w.mu.Lock()
	strike := w.strike
	w.strike = func() {}
	w.mu.Unlock()
	strike()
	w.hangUp()
}

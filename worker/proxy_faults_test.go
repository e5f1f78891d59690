//go:build faults

package worker_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// proxy is a TCP proxy before a Postgres server, in this process. It understands
// as much of the protocol as it takes to see statements and their ends go by,
// and to cut the connection at a chosen one.
type proxy struct {
	port     int
	upstream string // a unix socket's path
	listener net.Listener
	fate     func(l *link, sql string) fate // asked for each statement; nil means pass
	down     atomic.Bool                    // new connections are refused
	accepted atomic.Int64                   // connections, so far
	deaf     atomic.Bool                    // cancel requests are lost, which pgx sends when a connection breaks

	mu    sync.Mutex
	links map[*link]bool // guarded by mu
	wg    sync.WaitGroup
}

// fate is what becomes of a statement on its way to the server.
type fate int

const (
	pass     fate = iota
	cutReply      // the server has done it, and its reply is lost
	cutSent       // the connection is lost as soon as it is sent: it is still under way
	cutNever      // it never reaches the server
)

func (f fate) String() string {
	return [...]string{"pass", "reply lost", "cut when sent", "never sent"}[f]
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn
	cutAtReply     atomic.Bool
	silent         atomic.Bool // nothing is forwarded any more, and nothing said
	listening      atomic.Bool // it has said LISTEN

	// Of the goroutine that reads the client.
	statements map[string]string // prepared ones
	args       []byte            // of the last group, up to its Sync
	synced     bool
	next       fate // of the statement whose end (Sync) is still to come
}

// newWire puts a proxy before the server whose URL (with a unix socket) it is
// given. It ends with the test.
func newProxy(t *testing.T, to string, decide func(l *link, sql string) fate) *proxy {
	t.Helper()
	u, err := url.Parse(to)
	require.NoError(t, err)
	require.NotEmpty(t, u.Query().Get("host"), "the server must listen on a unix socket")
	port := u.Query().Get("port")
	if port == "" {
		port = "5432"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &proxy{
		port: listener.Addr().(*net.TCPAddr).Port, upstream: u.Query().Get("host") + "/.s.PGSQL." + port,
		listener: listener, fate: decide, links: map[*link]bool{},
	}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.cutAll()
		w.wg.Wait()
	})
	return w
}

// before is the test server as workers see it through the proxy.
func (w *proxy) before(t *testing.T, name string) *jobstest.Postgres {
	return &jobstest.Postgres{Name: name, Via: w.port, URL: func(dbname string) string { return jobstest.ServerURL(t, dbname) }}
}

// url is a connection string through the proxy to the same database as given.
func (w *proxy) url(t *testing.T, given string) string {
	t.Helper()
	u, err := url.Parse(given)
	require.NoError(t, err)
	u.Host, u.RawQuery = w.listener.Addr().String(), "sslmode=disable"
	return u.String()
}

func (w *proxy) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.accepted.Add(1)
		server, err := net.Dial("unix", w.upstream)
		if err != nil || w.down.Load() {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		l := &link{client: client, server: server, statements: map[string]string{}}
		w.mu.Lock()
		w.links[l] = true
		w.mu.Unlock()
		w.wg.Go(func() { l.toServer(w) })
		w.wg.Go(func() {
			l.toClient()
			w.mu.Lock()
			delete(w.links, l)
			w.mu.Unlock()
		})
	}
}

// cutAll cuts every connection there is.
func (w *proxy) cutAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		l.cut()
	}
}

// silence makes black holes of the connections that listen, and returns how
// many they were.
func (w *proxy) silence() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		if l.listening.Load() && !l.silent.Swap(true) {
			n++
		}
	}
	return n
}

func (l *link) cut() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// toServer forwards message by message what the client says.
func (l *link) toServer(w *proxy) {
	sent := false
	defer func() {
		if !sent {
			l.cut()
		}
	}()
	in := bufio.NewReader(l.client)
	if !l.startup(w, in) {
		return
	}
	for {
		message, err := readMessage(in)
		if err != nil {
			return
		}
		whole := false
		switch body := message[5:]; message[0] {
		case 'P':
			name, sql, _ := bytes.Cut(body, []byte{0})
			l.statements[string(name)] = text(sql)
		case 'B':
			_, rest, _ := bytes.Cut(body, []byte{0})
			name, args, _ := bytes.Cut(rest, []byte{0})
			if l.synced {
				l.args, l.synced = nil, false
			}
			l.args = append(l.args, args...)
			l.next = max(l.next, w.decide(l, l.statements[string(name)]))
		case 'Q':
			l.next, whole = w.decide(l, text(body)), true
			if strings.HasPrefix(strings.ToLower(text(body)), "listen ") {
				l.listening.Store(true)
			}
		case 'S':
			whole, l.synced = true, true
		}
		if l.next == cutNever || l.silent.Load() && !l.hold() {
			return
		}
		if l.next == cutReply || l.next == cutSent {
			l.cutAtReply.Store(true)
		}
		if _, err := l.server.Write(message); err != nil {
			return
		}
		if whole && l.next == cutSent {
			sent = true // toClient waits for the server and closes that side
			_ = l.client.Close()
			return
		}
	}
}

// text is a string as the protocol ends it, with a NUL.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// hold keeps a black hole open until the client gives up.
func (l *link) hold() bool {
	_, _ = io.Copy(io.Discard, l.client)
	return false
}

func (w *proxy) decide(l *link, sql string) fate {
	if w.fate == nil {
		return pass
	}
	return w.fate(l, sql)
}

// startup forwards the first message, which has no type. A wish for TLS is
// declined.
func (l *link) startup(w *proxy, in *bufio.Reader) bool {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(in, head); err != nil {
			return false
		}
		code := binary.BigEndian.Uint32(head[4:])
		if code == 80877102 && w.deaf.Load() {
			return false
		}
		if code == 80877103 || code == 80877104 { // TLS, GSS
			if _, err := l.client.Write([]byte("N")); err != nil {
				return false
			}
			continue
		}
		rest := make([]byte, binary.BigEndian.Uint32(head)-8)
		if _, err := io.ReadFull(in, rest); err != nil {
			return false
		}
		_, err := l.server.Write(append(head, rest...))
		return err == nil
	}
}

// toClient forwards what the server says, unless its reply is to be lost.
func (l *link) toClient() {
	defer l.cut()
	in := bufio.NewReader(l.server)
	for {
		message, err := readMessage(in)
		if err != nil || message[0] == 'Z' && l.cutAtReply.Load() {
			return
		}
		if l.silent.Load() || message[0] == 'C' && l.cutAtReply.Load() {
			continue
		}
		if _, err := l.client.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads one typed message: type, length, body.
func readMessage(in *bufio.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
	copy(message, head)
	_, err := io.ReadFull(in, message[5:])
	return message, err
}

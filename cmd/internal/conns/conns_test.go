package conns_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/netutil"

	"github.com/headgate/headgate/cmd/internal/conns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const most = 8

// serve answers "ok", or holds a request of /held until the test ends. bound is what stands
// before the listener.
func serve(t *testing.T, bound func(*http.Server, net.Listener) net.Listener) (addr string) {
	t.Helper()
	over, done := make(chan struct{}), make(chan struct{})
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			<-over
		}
		_, _ = io.WriteString(w, "ok")
	})}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = listener.Addr().String()
	listener = bound(server, listener)
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		close(over)
		_ = server.Close()
		<-done
	})
	return addr
}

// hold opens connections that say first, and no more.
func hold(t *testing.T, addr, first string, n int) (held []net.Conn) {
	t.Helper()
	for range n {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = io.WriteString(c, first)
		require.NoError(t, err)
		held = append(held, c)
	}
	return held
}

func ask(t *testing.T, addr string, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", http.NoBody)
	require.NoError(t, err)
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.ReadAll(answer.Body)
	return err
}

// Whatever others hold, a new request is answered: silent connections, requests that do not
// end, answers that are waited for.
func TestOthersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"silent": "", "half a request": "GET / HTTP/1.1\r\nHost: x\r\n", "answered and idle": "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "at work": "GET /held HTTP/1.1\r\nHost: x\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, func(s *http.Server, l net.Listener) net.Listener { return conns.Bound(s, l, most) })
			hold(t, addr, first, 3*most)
			for range 3 {
				require.NoError(t, ask(t, addr, time.Minute))
			}
		})
	}
}

// Control: behind a plain limit the same connections keep everybody out.
func TestAPlainLimitKeepsOthersOut(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(_ *http.Server, l net.Listener) net.Listener { return netutil.LimitListener(l, most) })
	hold(t, addr, "", most)
	require.ErrorIs(t, ask(t, addr, time.Second), context.DeadlineExceeded)
}

// No more than the limit are open, and a request that is at work is not the first to go.
func TestTheOldestIdleOneGoes(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	over := make(chan struct{})
	addr := serve(t, func(s *http.Server, l net.Listener) net.Listener {
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-over
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "done")
		})
		return conns.Bound(s, l, most)
	})
	works := hold(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1)[0]
	<-entered
	idle := hold(t, addr, "", 2*most)
	for _, gone := range idle[:most+1] { // beside the one at work there is room for most-1
		require.NoError(t, gone.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := gone.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	close(over)
	text, err := io.ReadAll(works)
	require.NoError(t, err)
	require.Contains(t, string(text), "done")
}

package tenantdb

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// listening counts who connects, and says nothing.
func listening(t *testing.T) (port int, accepted *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	_, text, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	port, err = strconv.Atoi(text)
	require.NoError(t, err)
	return port, accepted
}

// connectTo connects to a name that a lookup resolves, and returns the error of a server
// that says nothing.
func connectTo(t *testing.T, transport address.Transport, port int, lookup func() []string) error {
	t.Helper()
	conn, err := neutralConfig()
	require.NoError(t, err)
	a := address.Address{Host: "db.example.com", Port: port, Database: "d", User: "u", Password: address.NewSecret("planted"), ConnectTimeout: 5 * time.Second}
	require.NoError(t, apply(Config{}.withDefaults(), transport, a, conn))
	conn.LookupFunc = func(context.Context, string) ([]string, error) { return lookup(), nil }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, conn)
	if err == nil {
		_ = c.Close(ctx)
	}
	require.Error(t, err)
	require.NotContains(t, err.Error(), "planted")
	return err
}

// Each address that a name resolves to is judged by itself when it is dialled: a
// forbidden one is not connected to, whatever stands beside it.
func TestEveryResolvedIPIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		transport address.Transport
		ips       []string
		says      []string
		reaches   bool
	}{
		{address.PlainLoopback, []string{"127.0.0.1"}, nil, true},
		{address.PlainLoopback, []string{"169.254.169.254", "127.0.0.1"}, []string{"169.254.169.254 is refused: it is a cloud's metadata service"}, true},
		{address.PlainLoopback, []string{"127.0.0.1", "0.0.0.0"}, []string{"0.0.0.0 is refused: it is unspecified"}, true},
		{address.TLS, []string{"127.0.0.1"}, []string{"127.0.0.1 is refused: it is loopback"}, false},
		{address.TLS, []string{"127.0.0.1", "::ffff:127.0.0.1", "::1", "0.0.0.0", "64:ff9b::7f00:1"}, []string{"it is loopback", "it is unspecified"}, false},
	} {
		port, accepted := listening(t)
		err := connectTo(t, c.transport, port, func() []string { return c.ips })
		for _, says := range c.says {
			require.ErrorContains(t, err, says)
		}
		if !c.reaches {
			require.Zero(t, accepted.Load(), "%v", c.ips)
			continue
		}
		require.Eventually(t, func() bool { return accepted.Load() > 0 }, time.Minute, time.Millisecond, "%v", c.ips)
	}
}

// A name that changes its mind between two looks gains nothing: what is judged is the
// address that is dialled, and nobody looks again between the two.
func TestANameThatChangesItsMind(t *testing.T) {
	t.Parallel()
	port, accepted := listening(t)
	answers := []string{"127.0.0.1", "169.254.169.254", "10.255.255.1"}
	var looks int
	lookup := func() []string {
		looks++
		return []string{answers[(looks-1)%len(answers)]}
	}
	_ = connectTo(t, address.PlainLoopback, port, lookup)
	require.Equal(t, 1, looks)
	require.Eventually(t, func() bool { return accepted.Load() > 0 }, time.Minute, time.Millisecond)
	port, accepted = listening(t)
	for _, ip := range answers[1:] {
		require.ErrorContains(t, connectTo(t, address.PlainLoopback, port, lookup), "address "+ip+" is refused")
	}
	require.Zero(t, accepted.Load())
}

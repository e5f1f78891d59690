package tenantdb

import (
	"context"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest/tlstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// newTLSServer starts a real Postgres without TLS. give gives it a certificate.
func newTLSServer(t *testing.T) (port int, give func(tlstest.Certificate)) {
	t.Helper()
	server, err := localpg.Start(context.Background(), localpg.Config{TCP: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	conn, err := pgx.Connect(context.Background(), server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(context.Background(), `CREATE ROLE tls_job LOGIN PASSWORD 'planted'`)
	require.NoError(t, err)
	return server.Port(), func(c tlstest.Certificate) { c.Serve(t, conn) }
}

// connectTLS connects as a worker would, whose resolver leads the host to a port of this
// machine, and returns the sentence of a refusal.
func connectTLS(t *testing.T, a address.Address, port int) error {
	t.Helper()
	conn, err := neutralConfig()
	require.NoError(t, err)
	a.Port, a.Database, a.User, a.Password = 5432, "postgres", "tls_job", address.NewSecret("planted")
	if err = apply(Config{}.withDefaults(), address.TLS, a, conn); err == nil {
		conn.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil }
		conn.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var c *pgx.Conn
		if c, err = pgx.ConnectConfig(ctx, conn); err == nil {
			var on bool
			require.NoError(t, c.QueryRow(ctx, `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&on))
			require.True(t, on)
			require.NoError(t, c.Close(ctx))
			return nil
		}
	}
	return connectError(context.Background(), address.Place{Database: "acme", Login: "job"}, err)
}

// A real Postgres with ssl, a real authority: what is right connects, and each thing that
// is wrong is refused with its own next step, before the password is sent.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, other := tlstest.NewAuthority(t, "ours"), tlstest.NewAuthority(t, "other")
	port, give := newTLSServer(t)
	good := address.Address{Host: "db.example.com", RootCert: "ours", Roots: ours.PEM}
	refused := func(a address.Address, port int, says ...string) {
		t.Helper()
		err := connectTLS(t, a, port)
		class, _ := Classify(err)
		require.Equal(t, jobs.ClassUntrusted, class, "%v", err)
		for _, text := range says {
			require.ErrorContains(t, err, text)
		}
		require.NotContains(t, err.Error(), "planted")
	}
	refused(good, port, "server refused TLS connection", "turn ssl on at the server") // it has none yet

	give(ours.Issue(t, time.Now().Add(24*time.Hour), "db.example.com"))
	eventually := func(a address.Address) {
		t.Helper()
		require.Eventually(t, func() bool { return connectTLS(t, a, port) == nil }, time.Minute, 10*time.Millisecond)
	}
	eventually(good) // once the server has read its settings
	verifyCA := good
	verifyCA.SSLMode, verifyCA.Host = "verify-ca", "alias.example.com"
	eventually(verifyCA)
	several := good
	several.Roots = other.PEM + ours.PEM
	eventually(several)

	wrongName := good
	wrongName.Host = "alias.example.com"
	refused(wrongName, port, "db.example.com, not alias.example.com", "a name that the server's certificate is for")
	wrongAuthority := good
	wrongAuthority.Roots = other.PEM
	refused(wrongAuthority, port, "signed by unknown authority", "`headgate ca add NAME FILE`")
	wrongAuthority.SSLMode = "verify-ca"
	refused(wrongAuthority, port, "signed by unknown authority")
	refused(address.Address{Host: "db.example.com"}, port, "signed by unknown authority")
	refused(address.Address{Host: "db.example.com", RootCert: "nobody"}, port, `the catalog has no certificate authority "nobody"`, "`headgate ca add NAME FILE`")
	refused(good, naysayer(t), "server refused TLS connection", "see who else may answer in its place")

	give(ours.Issue(t, time.Now().Add(-time.Hour), "db.example.com"))
	require.Eventually(t, func() bool { return connectTLS(t, good, port) != nil }, time.Minute, 10*time.Millisecond)
	refused(good, port, "certificate has expired", "renew the server's certificate")
	verifyCA.Host = "db.example.com"
	refused(verifyCA, port, "certificate has expired")

	// What one worker does not trust opens no breaker for all.
	s, place := breakerServer(), at("a")
	for range 20 {
		require.NoError(t, s.admit(place, time.Now()))
		require.Empty(t, s.heard(place, time.Now(), connectTLS(t, good, port)))
	}
}

// naysayer answers the request for TLS with no, and fails the test if anything else is
// sent to it: that would be a password without TLS.
func naysayer(t *testing.T) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 8)) // the request for TLS
			_, _ = conn.Write([]byte("N"))
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if n, _ := io.Copy(io.Discard, conn); n > 0 {
				t.Errorf("%d bytes are sent without TLS", n)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().(*net.TCPAddr).Port
}

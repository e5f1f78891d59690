package tenantdb

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// authority is a certificate authority made for one test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return authority{certificate, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))}
}

// issue writes a server's certificate and key, for a host, which ends at some time.
func (a authority) issue(t *testing.T, dir, host string, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, host+".crt"), filepath.Join(dir, host+".key")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o644))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return certFile, keyFile
}

// newTLSServer starts a real Postgres without TLS. give gives it a certificate.
func newTLSServer(t *testing.T) (port int, give func(certFile, keyFile string)) {
	t.Helper()
	server, err := localpg.Start(context.Background(), localpg.Config{TCP: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	cfg, err := pgxpool.ParseConfig(server.URL("postgres"))
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(context.Background(), cfg.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	exec := func(sql string) {
		_, err := conn.Exec(context.Background(), sql)
		require.NoError(t, err, sql)
	}
	exec(`CREATE ROLE tls_job LOGIN PASSWORD 'planted'`)
	give = func(certFile, keyFile string) {
		// The server reads them from its own directory, as its own user.
		for name, file := range map[string]string{"server.crt": certFile, "server.key": keyFile} {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var dir string
			require.NoError(t, conn.QueryRow(context.Background(), `SHOW data_directory`).Scan(&dir))
			info, err := os.Stat(dir)
			require.NoError(t, err)
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, text, 0o600))
			if owner, ok := info.Sys().(*syscall.Stat_t); ok {
				require.NoError(t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
			}
		}
		exec(`ALTER SYSTEM SET ssl = on`)
		exec(`SELECT pg_reload_conf()`)
	}
	return server.Port(), give
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
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	port, give := newTLSServer(t)
	good := address.Address{Host: "db.example.com", RootCert: "ours", Roots: ours.pem}
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

	give(ours.issue(t, t.TempDir(), "db.example.com", time.Now().Add(24*time.Hour)))
	eventually := func(a address.Address) {
		t.Helper()
		require.Eventually(t, func() bool { return connectTLS(t, a, port) == nil }, time.Minute, 10*time.Millisecond)
	}
	eventually(good) // once the server has read its settings
	verifyCA := good
	verifyCA.SSLMode, verifyCA.Host = "verify-ca", "alias.example.com"
	eventually(verifyCA)
	several := good
	several.Roots = other.pem + ours.pem
	eventually(several)

	wrongName := good
	wrongName.Host = "alias.example.com"
	refused(wrongName, port, "db.example.com, not alias.example.com", "a name that the server's certificate is for")
	wrongAuthority := good
	wrongAuthority.Roots = other.pem
	refused(wrongAuthority, port, "signed by unknown authority", "`headgate ca add NAME FILE`")
	wrongAuthority.SSLMode = "verify-ca"
	refused(wrongAuthority, port, "signed by unknown authority")
	refused(address.Address{Host: "db.example.com"}, port, "signed by unknown authority")
	refused(address.Address{Host: "db.example.com", RootCert: "nobody"}, port, `the catalog has no certificate authority "nobody"`, "`headgate ca add NAME FILE`")
	refused(good, naysayer(t), "server refused TLS connection", "see who else may answer in its place")

	give(ours.issue(t, t.TempDir(), "db.example.com", time.Now().Add(-time.Hour)))
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

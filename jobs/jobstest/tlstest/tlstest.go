// Package tlstest makes certificate authorities and certificates, and gives them to real
// servers, in tests of TLS. It imports nothing of Headgate, so that every room may use it.
package tlstest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Authority is a certificate authority made for one test.
type Authority struct {
	PEM string // its certificate

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority of some name, which ends after a year.
func NewAuthority(t testing.TB, name string) Authority {
	t.Helper()
	return SelfSigned(t, name, true, time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour))
}

// SelfSigned is a certificate of some time that has signed itself: an authority's, or one
// that may sign nothing.
func SelfSigned(t testing.TB, name string, authority bool, from, until time.Time) Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		IsCA: authority, BasicConstraintsValid: true,
	}
	if authority {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	raw, key := sign(t, template, nil)
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return Authority{string(encoded("CERTIFICATE", raw)), certificate, key}
}

// sign makes a key and a certificate of it, signed by an authority, or by itself for nil.
func sign(t testing.TB, template *x509.Certificate, by *Authority) (raw []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	issuer, signer := template, key
	if by != nil {
		issuer, signer = by.certificate, by.key
	}
	raw, err = x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	require.NoError(t, err)
	return raw, key
}

func encoded(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

// Write puts the authority's certificate into a file of a temporary folder.
func (a Authority) Write(t testing.TB) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, []byte(a.PEM), 0o600))
	return file
}

// Certificate is a server's, with its key, both in PEM form.
type Certificate struct{ cert, key []byte }

// Issue makes a certificate of a server's names, which ends at some time.
func (a Authority) Issue(t testing.TB, until time.Time, hosts ...string) Certificate {
	t.Helper()
	raw, key := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, &a)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return Certificate{encoded("CERTIFICATE", raw), encoded("PRIVATE KEY", private)}
}

// Serve has a Postgres of this machine serve TLS with a certificate, as a superuser's
// connection. The server reads its settings a moment later. Its files are in its own
// directory, and its own user's.
func (c Certificate) Serve(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	ctx := context.Background()
	var dir string
	require.NoError(t, conn.QueryRow(ctx, `SHOW data_directory`).Scan(&dir))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	for name, text := range map[string][]byte{"server.crt": c.cert, "server.key": c.key} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			require.NoError(t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
		}
	}
	for _, sql := range []string{`ALTER SYSTEM SET ssl = on`, `SELECT pg_reload_conf()`} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
}

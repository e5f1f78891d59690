package tenantdb

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A real handshake against a certificate for example.com: verify-full wants the
// chain and the name, verify-ca the chain, and nothing less is to be had.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	certs := t.TempDir()
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(certs, "test.crt"), root, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(certs, "empty.crt"), nil, 0o600))

	for name, c := range map[string]struct {
		address address.Address
		ok      bool
	}{
		"verify-full":                {address.Address{Host: "example.com", RootCert: "test"}, true},
		"verify-full, another name":  {address.Address{Host: "example.org", RootCert: "test"}, false},
		"verify-full, unknown chain": {address.Address{Host: "example.com"}, false},
		"verify-ca, another name":    {address.Address{Host: "example.org", RootCert: "test", SSLMode: "verify-ca"}, true},
		"verify-ca, unknown chain":   {address.Address{Host: "example.com", SSLMode: "verify-ca"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := tlsConfig(certs, c.address)
			require.NoError(t, err)
			conn, err := tls.Dial("tcp", server.Listener.Addr().String(), cfg)
			require.Equal(t, c.ok, err == nil, "%v", err)
			if err == nil {
				require.NoError(t, conn.Close())
				return
			}
			class, _ := Classify(connectError(t.Context(), address.Place{}, err))
			require.Equal(t, jobs.ClassUntrusted, class, "%v", err)
		})
	}
	_, err := tlsConfig(certs, address.Address{RootCert: "missing"})
	require.ErrorContains(t, err, `root certificate "missing"`)
	// One worker that lacks it opens no breaker for all.
	s, place := breakerServer(), at("a")
	for range 20 {
		require.NoError(t, s.admit(place, time.Now()))
		require.Empty(t, s.heard(place, time.Now(), connectError(t.Context(), place, err)))
	}
	class, _ := Classify(connectError(t.Context(), place, err))
	require.Equal(t, jobs.ClassUntrusted, class)
	_, err = tlsConfig(certs, address.Address{RootCert: "empty"})
	require.ErrorContains(t, err, `holds no PEM certificate`)
}

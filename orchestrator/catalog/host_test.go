package catalog

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzHost: whatever a Host header holds, it means one domain in its one form, or
// none.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"acme.example.com", "ACME.Example.com.:8443", "bücher.example", "xn--bcher-kva.example", "[::1]:80", "127.0.0.1", "１２７.0.0.1",
		"a。b", "", ".", ":", "a:1:2", "-a.b", "a\x00b", "\xff", "xn--", "xn--a", strings.Repeat("ü", 200), strings.Repeat("a.", 200), "localhost", "faß.de", "1.2.3.4.5", "::1", "fe80::1%eth0"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		domain, err := canonicalDomain(host)
		if err != nil {
			require.Empty(t, domain)
			return
		}
		require.NotEmpty(t, domain)
		require.LessOrEqual(t, len(domain), maxDomain)
		require.Empty(t, strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789-."), domain)
		require.False(t, strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, "."), domain)
		for _, same := range []string{domain, strings.ToUpper(domain), domain + ".", domain + ":443", domain + ".:1"} {
			again, err := canonicalDomain(same)
			require.NoError(t, err, same)
			require.Equal(t, domain, again)
		}
	})
}

// What is in its one form already is not copied: a request's host costs nothing.
func TestACanonicalHostCostsNothing(t *testing.T) {
	for _, host := range []string{"acme.example.com", "acme.example.com:8443", "h2.example.com."} {
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = canonicalDomain(host) }), host)
	}
}

// No domain is made of bytes that are no text: idna would put U+FFFD in their place.
func TestAHostThatIsNotUTF8IsRefused(t *testing.T) {
	for _, host := range []string{"\xff", "a\xff.example", "b\xfccher.example", "\xc3.example:80"} {
		domain, err := canonicalDomain(host)
		require.ErrorContains(t, err, "is not valid UTF-8", "%q", host)
		require.Empty(t, domain)
	}
}

package address

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	base := Address{Host: "db1.example.com", Port: 5432, Database: "acme", User: "u", Password: NewSecret("S3cret")}
	with := func(change func(a *Address)) Address {
		a := base
		change(&a)
		return a
	}
	host := func(host, sslmode string) Address {
		return with(func(a *Address) { a.Host, a.SSLMode = host, sslmode })
	}
	hosts := []string{"db1.example.com", "10.0.0.1"}
	longDir := "/" + strings.Repeat("a", 100)

	for name, test := range map[string]struct {
		a         Address
		transport Transport
		hosts     []string
		want      string // "" means allowed
	}{
		"tls":             {base, TLS, hosts, ""},
		"verify-full":     {host("db1.example.com", "verify-full"), TLS, hosts, ""},
		"verify-ca":       {host("10.0.0.1", "verify-ca"), TLS, hosts, ""},
		"case and dot":    {host("DB1.Example.com.", ""), TLS, hosts, ""},
		"hosts' own case": {base, TLS, []string{"DB1.example.com."}, ""},
		"port 0":          {with(func(a *Address) { a.Port = 0 }), TLS, hosts, ""},
		"rootcert":        {with(func(a *Address) { a.RootCert = "our-ca.pem" }), TLS, hosts, ""},

		"disable": {host("db1.example.com", "disable"), TLS, hosts, "sslmode must be verify-full (got disable); verify-ca is the only other choice for a server with transport tls"},
		"require": {host("db1.example.com", "require"), TLS, hosts, "sslmode must be verify-full (got require); verify-ca is the only other choice for a server with transport tls"},
		"prefer":  {host("db1.example.com", "prefer"), TLS, hosts, "sslmode must be verify-full (got prefer); verify-ca is the only other choice for a server with transport tls"},
		"mode":    {host("db1.example.com", "x"), TLS, hosts, `sslmode: "x" is not one of disable, allow, prefer, require, verify-ca, verify-full`},

		"other host":   {host("db2.example.com", ""), TLS, hosts, `host: "db2.example.com" is not one of the server's hosts (db1.example.com, 10.0.0.1)`},
		"suffix":       {host("evil-db1.example.com", ""), TLS, hosts, `host: "evil-db1.example.com" is not one of the server's hosts (db1.example.com, 10.0.0.1)`},
		"subdomain":    {host("x.db1.example.com", ""), TLS, hosts, `host: "x.db1.example.com" is not one of the server's hosts (db1.example.com, 10.0.0.1)`},
		"metadata":     {host("169.254.169.254", ""), TLS, []string{"169.254.169.254"}, "host: address 169.254.169.254 is refused: it is a cloud's metadata service"},
		"loopback":     {host("127.0.0.1", ""), TLS, []string{"127.0.0.1"}, "host: address 127.0.0.1 is refused: it is loopback, which only a server with transport plain-loopback may use"},
		"localhost":    {host("localhost", ""), TLS, []string{"localhost"}, "host: localhost is not allowed with transport tls; use a server with transport plain-loopback or socket"},
		"socket's dir": {host("/tmp", ""), TLS, []string{"/tmp"}, `host: "/tmp" is the directory of a socket, which transport tls does not allow`},
		"no host":      {host("", ""), TLS, hosts, "host missing"},
		"host's NUL":   {host("db1\x00.example.com", ""), TLS, hosts, "host: control characters and invalid UTF-8 are not allowed"},

		"plain":           {host("localhost", ""), PlainLoopback, []string{"localhost"}, ""},
		"plain, disable":  {host("127.8.0.1", "disable"), PlainLoopback, []string{"127.8.0.1"}, ""},
		"plain, ipv6":     {host("0:0::1", ""), PlainLoopback, []string{"::1"}, ""},
		"plain, mapped":   {host("::ffff:127.0.0.1", ""), PlainLoopback, []string{"127.0.0.1"}, ""},
		"plain, tls":      {host("localhost", "verify-full"), PlainLoopback, []string{"localhost"}, "sslmode must be disable or left out for a server with transport plain-loopback (got verify-full)"},
		"plain, far":      {host("10.0.0.1", ""), PlainLoopback, hosts, "host: address 10.0.0.1 is refused: transport plain-loopback reaches this machine only"},
		"plain, far name": {base, PlainLoopback, hosts, `host: transport plain-loopback allows localhost, 127.0.0.0/8 and ::1 only (got "db1.example.com")`},
		"plain, rootcert": {with(func(a *Address) { a.Host, a.RootCert = "localhost", "ca" }), PlainLoopback, []string{"localhost"}, "sslrootcert has no meaning for a server with transport plain-loopback; leave it out"},

		"socket":           {host("/run/pg", ""), Socket, []string{"/run/pg"}, ""},
		"socket, disable":  {host("/run/pg", "disable"), Socket, []string{"/run/pg"}, ""},
		"socket, require":  {host("/run/pg", "require"), Socket, []string{"/run/pg"}, "sslmode must be disable or left out for a server with transport socket (got require)"},
		"socket, case":     {host("/run/PG", ""), Socket, []string{"/run/pg"}, `host: "/run/PG" is not one of the server's hosts (/run/pg)`},
		"socket, dots":     {host("/run/../pg", ""), Socket, []string{"/pg"}, `host: write the directory of the socket as "/pg"`},
		"socket, relative": {host("run/pg", ""), Socket, []string{"run/pg"}, `host: "run/pg" is neither a host name nor an IP address`},
		"socket, host":     {base, Socket, hosts, `host: transport socket wants the absolute directory of the socket (got "db1.example.com")`},
		"socket, long":     {host(longDir, ""), Socket, []string{longDir}, "host: the directory of the socket is 101 bytes long; the system allows 88"},

		"transport":    {base, "carrier-pigeon", hosts, `transport "carrier-pigeon" is unknown: use tls, plain-loopback or socket`},
		"no transport": {base, "", hosts, `transport "" is unknown: use tls, plain-loopback or socket`},
		"port":         {with(func(a *Address) { a.Port = 65536 }), TLS, hosts, "port: 65536 is not 1–65535"},
		"password":     {with(func(a *Address) { a.Password = Secret{} }), TLS, hosts, "password missing"},
		"password NUL": {with(func(a *Address) { a.Password = NewSecret("S3cret\x00") }), TLS, hosts, "password: control characters and invalid UTF-8 are not allowed"},
		"user newline": {with(func(a *Address) { a.User = "u\nv" }), TLS, hosts, "user: control characters and invalid UTF-8 are not allowed"},
		"database":     {with(func(a *Address) { a.Database = "postgres://x" }), TLS, hosts, `database: a name may not hold "=" or "://"`},
		"timeout":      {with(func(a *Address) { a.ConnectTimeout = time.Hour }), TLS, hosts, "connect_timeout: 1h0m0s is not between 1s and 5m0s"},
		"session":      {with(func(a *Address) { a.TargetSessionAttrs = "rw" }), TLS, hosts, `target_session_attrs: "rw" is not one of any, read-write, read-only, primary, standby, prefer-standby`},
		"rootcert dir": {with(func(a *Address) { a.RootCert = "../ca.pem" }), TLS, hosts, "sslrootcert: give the name of a certificate in Headgate's store (letters, digits, . _ -), not a path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.a.Check(test.transport, test.hosts)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.want)
			require.NotContains(t, err.Error(), "S3cret")
		})
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	a := Address{Host: "DB1.Example.com."}
	require.Equal(t, Address{Host: "db1.example.com", Port: 5432, SSLMode: "verify-full"}, a.Canonical(TLS))
	require.Equal(t, Address{Host: "db1.example.com", Port: 5432, SSLMode: "disable"}, a.Canonical(PlainLoopback))
	require.Equal(t, Address{Host: "a b", Port: 1, SSLMode: "verify-ca"}, Address{Host: "a b", Port: 1, SSLMode: "verify-ca"}.Canonical(TLS))
}

func TestParseTransport(t *testing.T) {
	t.Parallel()
	for _, name := range []Transport{TLS, PlainLoopback, Socket} {
		got, err := ParseTransport(string(name))
		require.NoError(t, err)
		require.Equal(t, name, got)
	}
	_, err := ParseTransport("TLS")
	require.EqualError(t, err, `transport "TLS" is unknown: use tls, plain-loopback or socket`)
}

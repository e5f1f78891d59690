package jobstest

import (
	"net/url"
	"strconv"
	"testing"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Server is the name under which the catalog knows the test server.
const Server = "testserver"

// Postgres is a server that a test's databases are made on. Most tests need
// none but the test server; those that stop or cut one bring their own.
type Postgres struct {
	Name string                     // in the catalog
	URL  func(dbname string) string // the superuser's connection string

	// Via is the port of 127.0.0.1 that workers connect to instead, for a proxy
	// that leads to the server. 0 means the server itself.
	Via int

	// Bouncer is a PgBouncer before the server, for workers and for the central
	// pool; nil for none. Tenants' logins get direct addresses too.
	Bouncer *Bouncer
}

// testServer is the server that tests share.
func testServer(t testing.TB) *Postgres {
	t.Helper()
	return throughBouncer(t, direct(t))
}

// Direct is the test server itself, for a test that is about sessions or counts
// them. It differs from what other tests have only with EnvPgBouncer.
func Direct(t testing.TB) *Postgres {
	t.Helper()
	p := direct(t)
	if Bounced() {
		p.Name += "-direct"
	}
	return p
}

func direct(t testing.TB) *Postgres {
	return &Postgres{Name: Server, URL: func(dbname string) string { return ServerURL(t, dbname) }}
}

// address reads where workers reach the server from its URL.
func (p *Postgres) address(t testing.TB) (host string, port int, transport address.Transport) {
	t.Helper()
	if p.Bouncer != nil {
		return "127.0.0.1", p.Bouncer.Port, address.PlainLoopback
	}
	if p.Via != 0 {
		return "127.0.0.1", p.Via, address.PlainLoopback
	}
	u, err := url.Parse(p.URL("postgres"))
	if err != nil {
		t.Fatalf("the address of server %s is not a URL", p.Name)
	}
	host, port, transport = u.Hostname(), 5432, address.PlainLoopback
	if dir := u.Query().Get("host"); dir != "" {
		host, transport = dir, address.Socket
	}
	for _, text := range []string{u.Port(), u.Query().Get("port")} {
		if n, err := strconv.Atoi(text); err == nil {
			port = n
		}
	}
	return host, port, transport
}

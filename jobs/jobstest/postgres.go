package jobstest

import (
	"context"
	"testing"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
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

// bed is the server as package testbed has it.
func (p *Postgres) bed(t testing.TB) *testbed.Server {
	t.Helper()
	s, err := testbed.At(p.Name, p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	s.KeepTemplates, s.Via, s.Passwords = true, p.Via, Planted
	if p.Bouncer != nil {
		s.Via, s.Pooler = p.Bouncer.Port, p.Bouncer.Mode
	}
	return s
}

// EmptyDatabase makes an empty database that is dropped when the test ends, and
// returns its name; see [ServerURL].
func EmptyDatabase(t testing.TB) string {
	t.Helper()
	name := "hg_" + random(6)
	testServer(t).make(t, name, func(ctx context.Context, s *testbed.Server) error { return s.Create(ctx, name, "template0") })
	return name
}

// make makes a database and drops it when the test ends.
func (p *Postgres) make(t testing.TB, name string, how func(context.Context, *testbed.Server) error) {
	t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	s := p.bed(t)
	t.Cleanup(func() {
		ctx, cancel := deadline()
		defer cancel()
		if keep(t) {
			return
		}
		if err := s.Drop(ctx, name); err != nil {
			t.Errorf("%v", err)
		}
	})
	if err := how(ctx, s); err != nil {
		t.Fatal(err)
	}
}

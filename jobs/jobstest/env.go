package jobstest

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Env is one test's own Headgate.
type Env struct {
	URL     string        // of the central database; holds a password
	Pool    *pgxpool.Pool // to it
	Key     string        // what HEADGATE_KEY must be for another process to read the catalog
	Catalog *catalog.Catalog
	Client  *orchestrator.Client
	Log     *slog.Logger

	t         testing.TB
	databases map[string]*Database
	servers   map[string]bool // in the catalog
	pollOnly  bool            // nothing can be heard through the central pool
}

// New makes a fresh central database and what stands around it. All of it is
// gone when the test ends.
func New(t testing.TB) *Env {
	t.Helper()
	return NewOn(t, testServer(t))
}

// NewOn is New with the central database on a server of the test's own.
func NewOn(t testing.TB, central *Postgres) *Env {
	t.Helper()
	e := &Env{URL: central.central(t), Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), t: t,
		databases: map[string]*Database{}, servers: map[string]bool{}}
	ctx, cancel := deadline()
	defer cancel()
	var err error
	if e.Pool, err = central.centralPool(ctx, e.URL); err != nil {
		t.Fatalf("opening a pool: %v", err)
	}
	t.Cleanup(e.Pool.Close)
	e.pollOnly = central.Bouncer != nil
	key := catalog.NewKey("test")
	ring, err := catalog.NewKeyRing(key)
	if err != nil {
		t.Fatal(err)
	}
	e.Key, e.Catalog = key.Reveal(), catalog.New(e.Pool, ring)
	if e.Client, err = orchestrator.New(orchestrator.Config{Pool: e.Pool, Catalog: e.Catalog, Logger: e.Log}); err != nil {
		t.Fatal(err)
	}
	e.server(ctx, testServer(t))
	return e
}

// Central makes a fresh central database, migrated and empty, and returns its
// URL. New does it too.
func Central(t testing.TB) string {
	t.Helper()
	return testServer(t).central(t)
}

func (p *Postgres) central(t testing.TB) string {
	t.Helper()
	name := "hg_" + random(6)
	p.clone(t, p.centralTemplate(t), name)
	return p.URL(name)
}

// server enters a server in the catalog if it is not there yet.
func (e *Env) server(ctx context.Context, p *Postgres) {
	e.t.Helper()
	if e.servers[p.Name] {
		return
	}
	host, _, transport := p.address(e.t)
	if _, err := e.Catalog.AddServer(ctx, catalog.ServerParams{Name: p.Name, Hosts: []string{host}, Transport: transport, Pooler: p.pooler()}); err != nil {
		e.t.Fatal(err)
	}
	e.servers[p.Name] = true
}

func (e *Env) pool(connString string) *pgxpool.Pool {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	pool, err := pgxpool.New(ctx, connString)
	if err != nil {
		e.t.Fatalf("opening a pool: %v", err)
	}
	e.t.Cleanup(pool.Close)
	return pool
}

// DatabaseOpts says what a tenant database is to be.
type DatabaseOpts struct {
	Kind   string // "shared" (the default) or "dedicated"
	Schema string // the SaaS's own schema: SQL that the owner runs; databases with the same are clones

	Encoding string // as CREATE DATABASE has it. "" means the server's, which is UTF8

	On *Postgres // the server it is made on. nil means the test server
}

// Database is one tenant database of the test.
type Database struct {
	ID    string
	Name  string // in the catalog and on the server
	Owner address.Address
	Job   address.Address
	Pool  *pgxpool.Pool // the superuser's, for looking at what jobs did
}

// Database makes a tenant database with two roles of its own and enters it in
// the catalog. The name is made unique on the server by a suffix.
func (e *Env) Database(name string, opts DatabaseOpts) *Database {
	e.t.Helper()
	on := opts.On
	if on == nil {
		on = testServer(e.t)
	}
	dbname := "hg_" + random(4)
	host, port, transport := on.address(e.t)
	sslmode := ""
	if transport != address.TLS {
		sslmode = "disable"
	}
	login := func(role string) address.Address {
		return address.Address{
			Host: host, Port: port, Database: dbname, User: dbname + "_" + role,
			Password: address.NewSecret("planted-" + role + "-" + random(8)), SSLMode: sslmode,
		}
	}
	db := &Database{ID: uuid.NewString(), Name: name, Owner: login("owner"), Job: login("job")}
	e.t.Cleanup(func() { // registered first, so run after the database is gone
		if !keep(e.t) {
			on.admin(e.t, "postgres", "DROP ROLE IF EXISTS "+db.Owner.User, "DROP ROLE IF EXISTS "+db.Job.User)
		}
	})
	on.clone(e.t, on.tenantTemplate(e.t, opts.Schema, opts.Encoding), dbname)
	on.admin(e.t, dbname,
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, db.Owner.User, db.Owner.Password.Reveal()),
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE headgate_job`, db.Job.User, db.Job.Password.Reveal()),
		fmt.Sprintf(`GRANT ALL ON DATABASE %s TO %s`, dbname, db.Owner.User),
		fmt.Sprintf(`REASSIGN OWNED BY %s TO %s`, templateOwner, db.Owner.User),
		fmt.Sprintf(`UPDATE headgate.identity SET database_id = '%s'`, db.ID),
	)
	db.Pool = e.pool(on.URL(dbname))
	ctx, cancel := deadline()
	defer cancel()
	kind := opts.Kind
	if kind == "" {
		kind = "shared"
	}
	e.server(ctx, on)
	_, err := e.Catalog.AddDatabase(ctx, catalog.DatabaseParams{
		ID: db.ID, Name: name, Server: on.Name, DBName: dbname, Kind: kind, Job: db.Job, Owner: db.Owner,
	})
	if err != nil {
		e.t.Fatalf("adding database %s to the catalog: %v", name, err)
	}
	if on.Bouncer != nil {
		e.direct(ctx, on, db)
	}
	e.databases[name] = db
	return db
}

// direct gives the logins of a database behind a pooler their direct addresses.
func (e *Env) direct(ctx context.Context, on *Postgres, db *Database) {
	e.t.Helper()
	u, err := url.Parse(on.URL("postgres"))
	if err != nil {
		e.t.Fatal("the server's address is not a URL")
	}
	for login, a := range map[jobs.Login]address.Address{jobs.LoginJob: db.Job, jobs.LoginOwner: db.Owner} {
		a.Port = tcpPort(u)
		if err := e.Catalog.SetDirect(ctx, db.Name, login, a); err != nil {
			e.t.Fatal(err)
		}
	}
}

// Tenant places a new tenant in a database of the test.
func (e *Env) Tenant(slug, database string) catalog.Tenant {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	tenant, err := e.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: slug, Name: slug, Database: database})
	if err != nil {
		e.t.Fatalf("adding tenant %s: %v", slug, err)
	}
	return tenant
}

// Config is a worker's configuration for a test: this environment's databases,
// and times that suit a test. Change what the test is about.
func (e *Env) Config() worker.Config {
	return worker.Config{
		Pool: e.Pool, PollOnly: e.pollOnly, Resolver: e.Catalog, Logger: e.Log,
		FetchCooldown: 5 * time.Millisecond, PollInterval: 50 * time.Millisecond,
		HoldFor: 100 * time.Millisecond, StopTimeout: 5 * time.Second,
		RetryDelay: func(int) time.Duration { return 10 * time.Millisecond },
	}
}

// Work starts a worker that stops with the test. A nil cfg means Config().
func (e *Env) Work(cfg *worker.Config, register func(*worker.Worker)) *worker.Worker {
	e.t.Helper()
	if cfg == nil {
		own := e.Config()
		cfg = &own
	}
	w, err := worker.New(*cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	register(w)
	ctx, cancel := deadline()
	defer cancel()
	if err := w.Start(ctx); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		ctx, cancel := deadline()
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			e.t.Errorf("stopping the worker: %v", err)
		}
	})
	return w
}

// Run enqueues a job for a tenant and waits for its last outcome.
func (e *Env) Run(tenant string, args jobs.Args) jobs.Outcome {
	e.t.Helper()
	result, err := e.Client.Enqueue(context.Background(), tenant, args, nil)
	if err != nil {
		e.t.Fatalf("enqueueing: %v", err)
	}
	return e.Wait(result.UID)
}

// Wait waits up to 30 seconds until a job has ended for good and returns its
// last outcome.
func (e *Env) Wait(uid string) jobs.Outcome {
	e.t.Helper()
	return e.WaitFor(uid, func(o jobs.Outcome) bool {
		return o.State == jobs.Succeeded || o.State == jobs.Cancelled || o.State == jobs.Discarded
	})
}

// WaitFor waits up to 30 seconds for an outcome of a job that fits, and returns
// the first.
func (e *Env) WaitFor(uid string, fits func(jobs.Outcome) bool) jobs.Outcome {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		attempts, err := e.Client.Attempts(ctx, uid)
		for _, o := range attempts {
			if fits(o) {
				return o
			}
		}
		select {
		case <-ctx.Done():
			e.t.Fatalf("job %s has no such outcome after 30 seconds: %v (%+v)", uid, err, attempts)
		case <-tick.C:
		}
	}
}

func keep(t testing.TB) bool { return t.Failed() && os.Getenv("KEEP_DB") == "1" }

// testWriter sends log lines to the test that they belong to.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	return len(line), nil
}

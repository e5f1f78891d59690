package jobstest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Env is one test's own Headgate.
type Env struct {
	URL       string        // of the central database; holds a password
	Pool      *pgxpool.Pool // to it
	Key       string        // what HEADGATE_KEY must be for another process to read the catalog
	Catalog   *catalog.Catalog
	Client    *orchestrator.Client
	Schedules *schedule.Store
	Admission *admission.Control
	Explain   *explain.Explainer
	Log       *slog.Logger

	t        testing.TB
	bed      *testbed.Bed
	central  *Postgres // where the central database is
	pollOnly bool      // nothing can be heard through the central pool

	api      *pgxpool.Pool    // what the client and its like use: Pool, or a role's login with EnvRoles
	worker   *pgxpool.Pool    // what workers use: Pool, or a role's login with EnvRoles
	resolver *catalog.Catalog // theirs
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
	return open(t, central, testbed.Config{Prefix: "hg_" + random(6), KeyName: "test"})
}

// open opens a bed and what stands around it.
func open(t testing.TB, central *Postgres, cfg testbed.Config) *Env {
	t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	cfg.Server = central.bed(t)
	cfg.Pool = func(ctx context.Context, dbname string) (*pgxpool.Pool, error) {
		return central.centralPool(ctx, central.URL(dbname))
	}
	bed, err := testbed.Open(ctx, cfg)
	if err != nil {
		t.Fatalf("making a central database: %v", err)
	}
	e := &Env{
		URL: central.URL(bed.DBName), Pool: bed.Pool, Key: bed.Key.Reveal(), Catalog: bed.Catalog,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), t: t, bed: bed, central: central, pollOnly: central.Bouncer != nil,
	}
	e.Log = SearchedLogger(t, e.Log)
	atEnd(t, bed.Close, bed)
	t.Cleanup(func() { searchRows(t, bed.Pool, true) })
	if !cfg.Adopt {
		if err := bed.Enter(ctx, testServer(t).bed(t)); err != nil {
			t.Fatal(err)
		}
	}
	e.api, e.worker, e.resolver = e.Pool, e.Pool, e.Catalog
	if AsRoles() && !cfg.Adopt {
		e.api, e.worker = e.rolePool("api"), e.rolePool("worker")
		e.Catalog, e.resolver = catalog.New(e.api, bed.Keys), catalog.New(e.worker, bed.Keys)
	}
	e.furnish()
	return e
}

// furnish makes what stands on the central database.
func (e *Env) furnish() {
	pool := e.api
	var errs [4]error
	e.Admission, errs[0] = admission.New(admission.Config{Pool: pool, Catalog: e.Catalog})
	e.Explain, errs[1] = explain.New(explain.Config{Pool: pool, Catalog: e.Catalog})
	e.Schedules, errs[2] = schedule.New(schedule.Config{Pool: pool, Catalog: e.Catalog, Logger: e.Log})
	e.Client, errs[3] = orchestrator.New(orchestrator.Config{Pool: pool, Catalog: e.Catalog, Logger: e.Log})
	if err := errors.Join(errs[:]...); err != nil {
		e.t.Fatal(err)
	}
}

// atEnd drops something of a bed when the test ends, unless it is to be kept.
func atEnd(t testing.TB, drop func(context.Context) error, bed *testbed.Bed) {
	t.Cleanup(func() {
		ctx, cancel := deadline()
		defer cancel()
		if keep(t) {
			bed.Keep()
		}
		if err := drop(ctx); err != nil {
			t.Errorf("dropping what the test had: %v", err)
		}
	})
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
	p.make(t, name, func(ctx context.Context, s *testbed.Server) error { return s.Central(ctx, name) })
	return p.URL(name)
}

func (e *Env) pool(connString string) *pgxpool.Pool {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	pool, err := pgxpool.New(ctx, connString)
	if err != nil {
		e.t.Fatalf("opening a pool: %v", err)
	}
	e.t.Cleanup(func() { closePool(e.t, pool) })
	return pool
}

// closePool fails a test that keeps a connection. Waiting for it would last until the
// package's time is up, and hide what the test has found.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() { pool.Close(); close(closed) }()
	ctx, cancel := deadline()
	defer cancel()
	select {
	case <-closed:
	case <-ctx.Done():
		t.Errorf("the test has not given back %s of a pool", jobs.Count(int(pool.Stat().AcquiredConns()), "connection"))
	}
}

// Applications is the pool that the client, the catalog and the schedules use: Pool, or that
// of a role's login with EnvRoles.
func (e *Env) Applications() *pgxpool.Pool { return e.api }

// CatalogKeys is the ring that opens what the catalog has sealed, for a catalog on another
// pool.
func (e *Env) CatalogKeys() *catalog.KeyRing { return e.bed.Keys }

// Reset closes the connections to the central database, so that each new one begins with what
// is set for the database by then.
func (e *Env) Reset() {
	e.Pool.Reset()
	e.api.Reset()
	e.worker.Reset()
}

// DatabaseOpts says what a tenant database is to be.
type DatabaseOpts struct {
	Kind   string // "shared" (the default) or "dedicated"
	Schema string // the SaaS's own schema: SQL that the owner runs; databases with the same are clones

	// Observed says why jobs run in the database although Schema does not keep its tenants
	// apart. "" means that such jobs wait, as they do in production.
	Observed string

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

	SigningKey address.Secret // by which it knows its workers
}

// Ticket is what a worker shows the database to open a job for an organisation there.
func (d *Database) Ticket(org int64, uid string) tenantdb.Ticket {
	return tenantdb.SignTicket(d.SigningKey, time.Now(), tenantdb.Bearer{Org: org, Key: strconv.FormatInt(org, 10), UID: uid})
}

// ActFor gives a transaction the context that a job of an organisation has, so that
// policies can be tried without a job.
func (d *Database) ActFor(ctx context.Context, tx pgx.Tx, org int64) error {
	ticket := d.Ticket(org, uuid.NewString())
	_, err := tx.Exec(ctx, enterJob, ticket.Text, ticket.MAC)
	return err
}

const enterJob = `SELECT headgate.enter_job($1, $2, 0, '', 0, 0, 0)`

// Database makes a tenant database with two roles of its own and enters it in
// the catalog. The name is made unique on the server by a suffix.
func (e *Env) Database(name string, opts DatabaseOpts) *Database {
	e.t.Helper()
	on := opts.On
	if on == nil {
		on = testServer(e.t)
	}
	ctx, cancel := deadline()
	defer cancel()
	made, err := e.bed.Database(ctx, testbed.DatabaseOpts{
		Name: name, DBName: "hg_" + random(4), Kind: opts.Kind, Schema: opts.Schema, Observed: opts.Observed, Encoding: opts.Encoding, Server: on.bed(e.t),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	atEnd(e.t, made.Drop, e.bed)
	pool := e.pool(on.URL(made.DBName))
	e.t.Cleanup(func() { searchRows(e.t, pool, false, made.Job.User, made.Owner.User) })
	return &Database{ID: made.ID, Name: name, Owner: made.Owner, Job: made.Job, SigningKey: made.SigningKey, Pool: pool}
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
		Pool: e.worker, PollOnly: e.pollOnly, Resolver: e.resolver, Logger: e.Log,
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
	heard := *cfg
	heard.Logger = SearchedLogger(e.t, cmp.Or(cfg.Logger, slog.Default()))
	w, err := worker.New(heard)
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

// Wait waits up to two minutes until a job has ended for good and returns its
// last outcome.
func (e *Env) Wait(uid string) jobs.Outcome {
	e.t.Helper()
	return e.WaitFor(uid, func(o jobs.Outcome) bool {
		return o.State == jobs.Succeeded || o.State == jobs.Cancelled || o.State == jobs.Discarded
	})
}

// WaitFor waits up to two minutes for an outcome of a job that fits, and returns
// the first.
func (e *Env) WaitFor(uid string, fits func(jobs.Outcome) bool) jobs.Outcome {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		attempts, err := e.Attempts(ctx, uid)
		for _, o := range attempts {
			if fits(o) {
				return o
			}
		}
		select {
		case <-ctx.Done():
			e.t.Fatalf("job %s has no such outcome after two minutes: %v (%+v)", uid, err, attempts)
		case <-tick.C:
		}
	}
}

// Attempts returns all ended attempts of a job, oldest first.
func (e *Env) Attempts(ctx context.Context, uid string) (all []jobs.Outcome, err error) {
	for page := (jobs.Page{Limit: 1000}); ; {
		var list []jobs.Outcome
		if list, page.After, err = e.Client.Attempts(ctx, uid, page); err != nil {
			return nil, err
		}
		if all = append(all, list...); page.After == "" {
			return all, nil
		}
	}
}

// RowOf returns the number of a job's row in river_job.
func (e *Env) RowOf(uid string) (id int64) {
	e.t.Helper()
	const sql = `SELECT id FROM river_job WHERE headgate.job_uid(metadata, id, created_at) = $1`
	if err := e.Pool.QueryRow(context.Background(), sql, uid).Scan(&id); err != nil {
		e.t.Fatalf("the row of job %s: %v", uid, err)
	}
	return id
}

// UIDOf returns the UID of a row in river_job, which anybody may have written.
func (e *Env) UIDOf(id int64) (uid string) {
	e.t.Helper()
	const sql = `SELECT headgate.job_uid(metadata, id, created_at)::text FROM river_job WHERE id = $1`
	if err := e.Pool.QueryRow(context.Background(), sql, id).Scan(&uid); err != nil {
		e.t.Fatalf("the UID of row %d: %v", id, err)
	}
	return uid
}

func keep(t testing.TB) bool { return t.Failed() && os.Getenv("KEEP_DB") == "1" }

// testWriter sends log lines to the test that they belong to.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	return len(line), nil
}

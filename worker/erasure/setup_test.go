package erasure_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/address"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

var _ erasure.Centre = orchestrator.Erasures{}

// schema is an application's, with tables of each sort. Every foreign key would take its
// rows along: an erasure may not rely on that.
const schema = `
	CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL, brand_id int, note text);
	CREATE INDEX ON orders (org_id);
	CREATE TABLE items (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE);
	CREATE INDEX ON items (order_id);
	CREATE TABLE item_notes (item_id bigint NOT NULL REFERENCES items ON DELETE CASCADE, text text);
	CREATE INDEX ON item_notes (item_id);
	CREATE TABLE categories (id bigint PRIMARY KEY, org_id int NOT NULL, parent bigint REFERENCES categories);
	CREATE INDEX ON categories (parent);
	CREATE TABLE events (org_id bigint NOT NULL, at int NOT NULL) PARTITION BY RANGE (at);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
	CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
	CREATE TABLE "Odd Docs" (id int, "Owner's key" text NOT NULL);
	CREATE TABLE own (org_id bigint NOT NULL, n int);
	ALTER TABLE own ENABLE ROW LEVEL SECURITY;
	CREATE POLICY mine ON own USING (org_id = (SELECT headgate.current_org()));
	CREATE TABLE countries (name text);
	CREATE TABLE stray (org_id bigint NOT NULL, n int)`

// tables are those of schema that are protected.
var tables = []protection.Table{
	{Name: "orders", Brand: "brand_id"},
	{Name: "items", Through: "order_id"},
	{Name: "item_notes", Through: "item_id"},
	{Name: "categories"},
	{Name: "events"},
	{Name: `"Odd Docs"`, Column: `"Owner's key"`},
	{Name: "own"},
	{Name: "countries", Public: true},
}

// everything is all rows of the application that are an organisation's, as texts.
const everything = `
	SELECT 'orders ' || o.* FROM orders o WHERE org_id = $1
	UNION ALL SELECT 'items ' || i.* FROM items i JOIN orders o ON o.id = i.order_id WHERE o.org_id = $1
	UNION ALL SELECT 'item_notes ' || n.* FROM item_notes n JOIN items i ON i.id = n.item_id JOIN orders o ON o.id = i.order_id WHERE o.org_id = $1
	UNION ALL SELECT 'categories ' || c.* FROM categories c WHERE org_id = $1
	UNION ALL SELECT 'events ' || e.* FROM events e WHERE org_id = $1
	UNION ALL SELECT 'docs ' || d.* FROM "Odd Docs" d WHERE "Owner's key" = $1::text
	UNION ALL SELECT 'own ' || w.* FROM own w WHERE org_id = $1
	UNION ALL SELECT 'stray ' || s.* FROM stray s WHERE org_id = $1
	ORDER BY 1`

// bundle is a shared database with three organisations and a worker.
type bundle struct {
	*jobstest.Env
	t     *testing.T
	ctx   context.Context
	db    *jobstest.Database
	owner *pgx.Conn
	files *files
	org   [4]catalog.Tenant // 1 to 3
}

func setup(t *testing.T, opts jobstest.DatabaseOpts, with ...protection.Table) *bundle {
	t.Helper()
	b := &bundle{Env: jobstest.New(t), t: t, ctx: access.With(context.Background(), access.Actor{Name: "ana"}), files: &files{there: map[string]bool{}}}
	if opts.Schema == "" {
		opts.Schema, with = schema, tables
	}
	b.db = b.Database("shop", opts)
	b.owner = b.login(b.db.Owner)
	if opts.Kind != "dedicated" {
		_, err := protection.Apply(b.ctx, b.owner, protection.Request{Database: "shop", Login: b.db.Job.User, Tables: with, Reason: "the same for all"})
		require.NoError(t, err)
	}
	for i := 1; i <= 3 && (i == 1 || opts.Kind != "dedicated"); i++ {
		b.org[i] = b.Tenant([]string{"", "acme", "globex", "initech"}[i], "shop")
	}
	return b
}

func (b *bundle) login(a address.Address) *pgx.Conn {
	b.t.Helper()
	cfg := b.db.Pool.Config().ConnConfig.Copy()
	cfg.User, cfg.Password, cfg.Fallbacks = a.User, a.Password.Reveal(), nil
	conn, err := pgx.ConnectConfig(b.ctx, cfg)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// work starts a worker with the kind, on the login of workers.
func (b *bundle) work(cfg erasure.Config, further func(w *worker.Worker)) *worker.Worker {
	b.t.Helper()
	own := b.Config()
	own.RetryDelay = func(int) time.Duration { return 0 }
	client, err := orchestrator.New(orchestrator.Config{Pool: own.Pool, Catalog: b.Catalog})
	require.NoError(b.t, err)
	cfg.Centre, cfg.RemoveFile, cfg.WaitFor = client.Erasures(), b.files.remove, 10*time.Millisecond
	return b.Work(&own, func(w *worker.Worker) {
		worker.OnConn(w, erasure.New(cfg))
		if further != nil {
			further(w)
		}
	})
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.db.Pool.Exec(b.ctx, sql, args...)
	require.NoError(b.t, err, sql)
}

// number is what one query of the tenant's database answers.
func (b *bundle) number(sql string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.db.Pool.QueryRow(b.ctx, sql, args...).Scan(&n), sql)
	return n
}

// trust declares a function as trusted.
func (b *bundle) trust(function string) {
	b.t.Helper()
	_, err := protection.Apply(b.ctx, b.owner, protection.Request{Database: "shop", Login: b.db.Job.User, Functions: []string{function}, Reason: "a test's own"})
	require.NoError(b.t, err)
}

// failed has a tenant's erasure fail, and returns the job and what it says.
func (b *bundle) failed(tenant catalog.Tenant) (uid, message string) {
	b.t.Helper()
	uid = b.erase(tenant).JobUID
	return uid, b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed || o.State == jobs.Succeeded }).Message
}

// rowsOf are an organisation's rows in the application's tables.
func (b *bundle) rowsOf(tenant catalog.Tenant) (all []string) {
	b.t.Helper()
	rows, err := b.db.Pool.Query(b.ctx, everything, tenant.OrgID)
	require.NoError(b.t, err)
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err)
	return all
}

// central is what one query of the central database answers.
func (b *bundle) central(sql string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.Pool.QueryRow(b.ctx, sql, args...).Scan(&n), sql)
	return n
}

func (b *bundle) remove(tenant catalog.Tenant) {
	b.t.Helper()
	_, err := b.Catalog.Editor().Remove(b.ctx, []string{tenant.ID}, nil)
	require.NoError(b.t, err)
}

func (b *bundle) erase(tenant catalog.Tenant) jobs.Erasure {
	b.t.Helper()
	e, err := b.Client.Erase(b.ctx, tenant.ID, &jobs.EraseOpts{Reason: "request 17"})
	require.NoError(b.t, err)
	return e
}

// erased has a tenant erased, and returns what the job says.
func (b *bundle) erased(tenant catalog.Tenant) string {
	b.t.Helper()
	last := b.Wait(b.erase(tenant).JobUID)
	require.Equal(b.t, jobs.Succeeded, last.State, last.Message)
	return last.Result.Output
}

// fill gives an organisation rows in each table.
func (b *bundle) fill(tenant catalog.Tenant, orders int) {
	b.t.Helper()
	for _, sql := range []string{
		`INSERT INTO orders SELECT $1 * 100000 + n, $1, n % 3, 'n' FROM generate_series(1, $2::int) n`,
		`INSERT INTO items SELECT $1 * 1000000 + n, $1 * 100000 + 1 + n % $2 FROM generate_series(1, 2 * $2::int) n`,
		`INSERT INTO item_notes SELECT $1 * 1000000 + 1 + n % (2 * $2), 'n' FROM generate_series(1, 3 * $2::int) n`,
		`INSERT INTO categories SELECT $1 * 100000 + n, $1, CASE WHEN n > 1 THEN $1 * 100000 + n / 2 END FROM generate_series(1, $2::int) n`,
		`INSERT INTO events SELECT $1, n % 20 FROM generate_series(1, $2::int) n`,
		`INSERT INTO "Odd Docs" SELECT n, $1::bigint::text FROM generate_series(1, $2::int) n`,
		`INSERT INTO own SELECT $1, n FROM generate_series(1, $2::int) n`,
		`INSERT INTO stray SELECT $1, n FROM generate_series(1, $2::int) n`,
	} {
		b.exec(sql, tenant.OrgID, orders)
	}
}

// files are those of reports.
type files struct {
	mu    sync.Mutex
	there map[string]bool
	held  map[string]error // of those that cannot be deleted
}

func (f *files) remove(_ context.Context, key string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.held[key]; err != nil {
		return false, err
	}
	was := f.there[key]
	delete(f.there, key)
	return was, nil
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Kind: "dedicated"})
	jobstest.PrepareQueries(t, ".", b.db.Pool)
}

func TestArguments(t *testing.T) {
	t.Parallel()
	require.NoError(t, wire.Erase{Tenant: "01890a5d-ac96-774b-bcce-b302099a8057"}.Check())
	for _, wrong := range []string{"", "acme", "7", "01890A5D-AC96-774B-BCCE-B302099A8057"} {
		require.ErrorContains(t, wire.Erase{Tenant: wrong}.Check(), "UUID of a removed tenant", wrong)
	}
}

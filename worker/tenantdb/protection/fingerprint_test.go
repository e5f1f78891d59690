package protection_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

const shop = `
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org_id bigint NOT NULL, note text);
CREATE INDEX ON orders (org_id);
INSERT INTO orders (org_id, note) SELECT 1 + i % 2, 'note ' || i FROM generate_series(1, 20) i;
CREATE TABLE items (order_id bigint NOT NULL REFERENCES orders, n int);
CREATE INDEX ON items (order_id);
INSERT INTO items SELECT id, 1 FROM orders;
CREATE TABLE countries (code text PRIMARY KEY);
INSERT INTO countries VALUES ('de'), ('fr');
CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1';`

// Whatever the full check judges changes the fingerprint, and the check then finds it.
func TestEachChangeIsSeen(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	h.protect(h.request(protection.Table{Name: "orders"}, protection.Table{Name: "items", Through: "order_id"}))
	h.root(`CREATE SCHEMA hidden; CREATE FUNCTION hidden.leak() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT 1::text'; CREATE TABLE hidden.t (s text); GRANT SELECT ON hidden.t TO PUBLIC`)
	require.Empty(t, h.open(), "nothing leads into the schema")
	app := h.role("NOLOGIN")
	const both = "unguarded public.items\nunguarded public.orders" // the child asks its parent
	for _, c := range []struct{ name, does, undoes, finds string }{
		{"a policy is dropped", `DROP POLICY headgate_org ON orders`, `CREATE POLICY headgate_org ON orders AS RESTRICTIVE TO headgate_job USING (org_id = (SELECT headgate.current_org()))`, both},
		{"a policy is changed", `ALTER POLICY headgate_org ON orders USING (true)`, `ALTER POLICY headgate_org ON orders USING (org_id = (SELECT headgate.current_org()))`, both},
		{"a policy is given to others", `ALTER POLICY headgate_org ON orders TO ` + app, `ALTER POLICY headgate_org ON orders TO headgate_job`, both},
		{"row-level security is switched off", `ALTER TABLE orders DISABLE ROW LEVEL SECURITY`, `ALTER TABLE orders ENABLE ROW LEVEL SECURITY`, both},
		{"a table is granted", `GRANT SELECT ON countries TO headgate_job`, `REVOKE SELECT ON countries FROM headgate_job`, "unguarded public.countries"},
		{"a column is granted", `GRANT SELECT (code) ON countries TO headgate_job`, `REVOKE SELECT (code) ON countries FROM headgate_job`, "unguarded public.countries"},
		{"a table is granted to everybody", `GRANT UPDATE ON countries TO PUBLIC`, `REVOKE UPDATE ON countries FROM PUBLIC`, "unguarded public.countries"},
		{"a table may be emptied", `GRANT TRUNCATE ON orders TO headgate_job`, `REVOKE TRUNCATE ON orders FROM headgate_job`, "beyond_policies public.orders"},
		{"a sequence may be set", `GRANT UPDATE ON SEQUENCE orders_id_seq TO headgate_job`, `REVOKE UPDATE ON SEQUENCE orders_id_seq FROM headgate_job`, "sequence public.orders_id_seq"},
		{"a definer function is made", `CREATE FUNCTION total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM orders'`, `DROP FUNCTION total()`, "definer_function public.total()"},
		{"a function becomes a definer", `ALTER FUNCTION harmless() SECURITY DEFINER`, `ALTER FUNCTION harmless() SECURITY INVOKER`, "definer_function public.harmless()"},
		{"a view is made", `CREATE VIEW all_orders AS SELECT * FROM orders; GRANT SELECT ON all_orders TO headgate_job`, `DROP VIEW all_orders`, "unguarded public.all_orders"},
		{"a materialized view is made", `CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM orders; GRANT SELECT ON sums TO headgate_job`, `DROP MATERIALIZED VIEW sums`, "unguarded public.sums"},
		{"a rule is made", `CREATE RULE copied AS ON INSERT TO orders DO ALSO UPDATE countries SET code = code`, `DROP RULE copied ON orders`, "rule public.orders"},
		{"a membership is added", `GRANT ` + app + ` TO ` + h.db.Job.User, `REVOKE ` + app + ` FROM ` + h.db.Job.User, "set_role " + app},
		{"the login passes policies by", `ALTER ROLE ` + h.db.Job.User + ` BYPASSRLS`, `ALTER ROLE ` + h.db.Job.User + ` NOBYPASSRLS`, "bypassrls " + h.db.Job.User},
		{"the login may make roles", `ALTER ROLE ` + h.db.Job.User + ` CREATEROLE`, `ALTER ROLE ` + h.db.Job.User + ` NOCREATEROLE`, "createrole " + h.db.Job.User},
		{"the login owns a table", `ALTER TABLE countries OWNER TO ` + h.db.Job.User, `ALTER TABLE countries OWNER TO ` + h.db.Owner.User, "owner " + h.db.Job.User + "\nunguarded public.countries"},
		{"the ledger is granted", `GRANT UPDATE ON headgate.ledger TO headgate_job`, `REVOKE UPDATE ON headgate.ledger FROM headgate_job`, "own_rights headgate.ledger"},
		{"a hidden column is granted", `GRANT SELECT (installed_at) ON headgate.identity TO headgate_job`, `REVOKE SELECT (installed_at) ON headgate.identity FROM headgate_job`, "own_rights headgate.identity"},
		{"statistics are granted", `GRANT SELECT ON pg_statistic TO headgate_job`, `REVOKE SELECT ON pg_statistic FROM headgate_job`, "catalog pg_catalog.pg_statistic"},
		{"a function calls a hidden one", `CREATE FUNCTION wrap() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT hidden.leak(); END`, `DROP FUNCTION wrap()`, "definer_function hidden.leak()"},
		{"a function reads a hidden table", `CREATE FUNCTION wrap() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT s FROM hidden.t; END`, `DROP FUNCTION wrap()`, "unguarded hidden.t"},
		{"a default calls a hidden function", `ALTER TABLE items ALTER n SET DEFAULT length(hidden.leak())`, `ALTER TABLE items ALTER n DROP DEFAULT`, "definer_function hidden.leak()"},
		{"a domain calls a hidden function", `CREATE DOMAIN leaky AS text CHECK (VALUE <> hidden.leak())`, `DROP DOMAIN leaky`, "definer_function hidden.leak()"},
		{"the parent's key is dropped", `ALTER TABLE orders DROP CONSTRAINT orders_pkey CASCADE`, `ALTER TABLE orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id); ALTER TABLE items ADD FOREIGN KEY (order_id) REFERENCES orders`, "unguarded public.items"},
		{"columns exchange their names", `ALTER TABLE orders RENAME org_id TO x; ALTER TABLE orders RENAME note TO org_id; ALTER TABLE orders RENAME x TO note`, `ALTER TABLE orders RENAME org_id TO x; ALTER TABLE orders RENAME note TO org_id; ALTER TABLE orders RENAME x TO note`, both},
		{"a file function is granted", `GRANT EXECUTE ON FUNCTION pg_read_binary_file(text) TO PUBLIC`, `REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text) FROM PUBLIC`, "server_function pg_catalog.pg_read_binary_file(text)"},
		{"a foreign server has a login for all", `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR PUBLIC SERVER far; GRANT USAGE ON FOREIGN SERVER far TO PUBLIC`, `DROP FOREIGN DATA WRAPPER w CASCADE`, "foreign_server far"},
		{"the parent's guard goes", `GRANT INSERT ON countries TO headgate_job; INSERT INTO headgate.protected (object, mode) VALUES ('public.countries', 'public')`,
			`REVOKE INSERT ON countries FROM headgate_job; DELETE FROM headgate.protected WHERE object = 'public.countries'`, "public_written public.countries"},
	} {
		before := h.fingerprint()
		h.root(c.does)
		require.NotEqual(t, before, h.fingerprint(), c.name)
		require.Equal(t, c.finds, h.open(), c.name)
		h.root(c.undoes)
		require.Empty(t, h.open(), c.name)
	}
	// The group's policies and declarations do not wait for a restart either.
	before := h.fingerprint()
	h.root(`UPDATE headgate.protected SET org_column = 'note' WHERE object = 'public.orders'`)
	require.NotEqual(t, before, h.fingerprint())
	require.Equal(t, "unguarded public.items\nunguarded public.orders", h.open(), "another column is declared than the policy binds")
}

// A membership of headgate_job itself counts too. headgate_job is one role of the whole server,
// on which other tests work: no session but this one sees the grant, which is undone.
func TestAMembershipOfTheGroupIsSeen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := newHouse(t, shop)
	h.protect(h.request(protection.Table{Name: "orders"}))
	before := h.fingerprint()
	role := h.role("NOLOGIN")
	tx, err := h.db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	asJob := func() (string, string) {
		t.Helper()
		_, err := tx.Exec(ctx, `SET LOCAL SESSION AUTHORIZATION `+h.db.Job.User)
		require.NoError(t, err)
		report, err := protection.Inspect(ctx, within{tx}, protection.Options{Database: "shared"})
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `SET LOCAL SESSION AUTHORIZATION DEFAULT`)
		require.NoError(t, err)
		return report.Fingerprint, lines(report.Open())
	}
	fingerprint, open := asJob()
	require.Equal(t, before, fingerprint, "the control: in this transaction the answers are those of the job login")
	require.Empty(t, open)
	_, err = tx.Exec(ctx, `GRANT `+role+` TO headgate_job`)
	require.NoError(t, err)
	fingerprint, open = asJob()
	require.NotEqual(t, before, fingerprint)
	require.Equal(t, "set_role "+role, open)
}

// within begins inside a transaction.
type within struct{ pgx.Tx }

func (w within) BeginTx(ctx context.Context, _ pgx.TxOptions) (pgx.Tx, error) { return w.Begin(ctx) }

// A setting of the role, a default privilege and a schema that is open to all are told, and
// stop nothing.
func TestNotes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	h.root(`REVOKE CREATE ON SCHEMA public FROM PUBLIC`) // as it is from Postgres 15 on
	require.Empty(t, h.inspect().Findings)
	for _, c := range []struct{ does, finds string }{
		{`ALTER ROLE ` + h.db.Job.User + ` SET work_mem = '1GB'`, "role_setting work_mem"},
		{`ALTER DEFAULT PRIVILEGES FOR ROLE ` + h.db.Owner.User + ` IN SCHEMA public GRANT SELECT ON TABLES TO headgate_job`, "default_privileges headgate_job"},
		{`GRANT CREATE ON SCHEMA public TO PUBLIC`, "create public"},
	} {
		before := h.fingerprint()
		h.root(c.does)
		require.NotEqual(t, before, h.fingerprint(), c.does)
		report := h.inspect()
		require.Empty(t, report.Open())
		require.Equal(t, c.finds, lines(report.Findings))
		h.root(report.Findings[0].Next) // the advice is carried out
		require.Empty(t, h.inspect().Findings, c.does)
	}
}

// What jobs do all day changes nothing: rows, temporary tables, ANALYZE.
func TestWorkChangesNoFingerprint(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	before := h.fingerprint()
	h.root(`ANALYZE`, `VACUUM orders`, `INSERT INTO orders (org_id) SELECT 3 FROM generate_series(1, 1000)`, `ANALYZE orders`)
	h.root(`TRUNCATE items`, `VACUUM FULL orders`)
	_, err := h.job.Exec(context.Background(), `
CREATE TEMP TABLE mine (a int PRIMARY KEY); CREATE TEMP VIEW v AS SELECT * FROM mine; GRANT SELECT (a) ON mine TO PUBLIC;
ALTER TABLE mine ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON mine USING (true); CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'`)
	require.NoError(t, err)
	require.Equal(t, before, h.fingerprint())
	require.Empty(t, h.open(), "what a job makes for itself is no finding")
}

// Through any pooler, and whatever the session's search_path is, the answers are the same.
func TestInAnyModeOfTheSession(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`CREATE VIEW v AS SELECT * FROM orders; CREATE FUNCTION total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; GRANT SELECT ON v, items TO headgate_job`)
	h.protect(h.request(protection.Table{Name: "orders"}))
	h.mine(`GRANT SELECT ON v, items TO headgate_job`)
	ctx := context.Background()
	fingerprint, open := h.fingerprint(), h.open()
	require.Equal(t, "definer_function public.total()\nunguarded public.items\nunguarded public.v", open)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		cfg := h.job.Config().Copy()
		cfg.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(ctx, cfg)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, `SET search_path = headgate, public, pg_catalog; SET quote_all_identifiers = on`)
		require.NoError(t, err)
		got, err := protection.Fingerprint(ctx, conn)
		require.NoError(t, err, mode)
		require.Equal(t, fingerprint, got, mode)
		report, err := protection.Inspect(ctx, conn, protection.Options{})
		require.NoError(t, err, mode)
		require.Equal(t, open, lines(report.Open()), mode)
		require.Equal(t, fingerprint, report.Fingerprint)
		require.NoError(t, conn.Close(ctx))
	}
}

// In a dedicated database there is nobody else: what matters is what jobs may do with
// Headgate's own.
func TestADedicatedDatabase(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`GRANT ALL ON orders TO headgate_job`)
	h.root(`GRANT UPDATE ON headgate.fence TO headgate_job`, `ALTER ROLE `+h.db.Job.User+` BYPASSRLS`)
	report, err := protection.Inspect(context.Background(), h.job, protection.Options{Dedicated: true})
	require.NoError(t, err)
	require.Equal(t, "own_rights headgate.fence\nbypassrls "+h.db.Job.User, lines(report.Findings))
	require.Equal(t, "own_rights headgate.fence", lines(report.Open()))
}

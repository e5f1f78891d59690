package protection_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// Tables of every type of column are guarded, in reading and writing, and by their index.
func TestEveryTypeOfOrganisationColumn(t *testing.T) {
	t.Parallel()
	types := []struct{ kind, one, two string }{
		{"bigint", "1", "2"}, {"int", "1", "2"}, {"smallint", "1", "2"}, {"numeric", "1", "2"},
		{"text", "'1'", "'2'"}, {"varchar(40)", "'1'", "'2'"}, {"char(8)", "'1'", "'2'"},
	}
	var schema strings.Builder
	for i, c := range types { // organisation 1 has two rows of three
		fmt.Fprintf(&schema, `CREATE TABLE notes%d (id int PRIMARY KEY, "Customer" %s NOT NULL, note text); CREATE INDEX ON notes%d ("Customer");
INSERT INTO notes%d VALUES (1, %s, 'a'), (2, %s, 'b'), (3, %s, 'c');`, i, c.kind, i, i, c.one, c.one, c.two)
	}
	for _, by := range []string{protection.ByPolicy, protection.ByView} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, schema.String())
			var tables []protection.Table
			for i := range types {
				tables = append(tables, protection.Table{Name: fmt.Sprint("notes", i), Column: `"Customer"`, By: by})
			}
			h.protect(h.request(tables...))
			require.Empty(t, h.open())
			for i, c := range types {
				h.guarded(fmt.Sprint("notes", i), c.two)
			}
			for i := range tables { // through a view they may insert, or update
				tables[i].Grant = []string{"select", "update", "delete"}
			}
			h.protect(h.request(tables...))
			for i, c := range types {
				h.guarded(fmt.Sprint("notes", i), c.two)
			}
		})
	}
}

// A uuid key is the tenant's key, cast; the test's context has a number, so that the policy
// asks for what is no uuid: an error, and never a row.
func TestAUUIDColumn(t *testing.T) {
	t.Parallel()
	const one, two = "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"
	h := newHouse(t, `CREATE TABLE notes (id int PRIMARY KEY, customer_id uuid NOT NULL, note text); CREATE INDEX ON notes (customer_id);
INSERT INTO notes VALUES (1, `+one+`, 'a'), (2, `+one+`, 'b'), (3, `+two+`, 'c')`)
	h.root(`CREATE OR REPLACE FUNCTION headgate.current_org_key() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT '00000000-0000-0000-0000-' || lpad(headgate.current_org()::text, 12, '0') $$`) // as org_key of a tenant with uuids
	plan := h.protect(h.request(protection.Table{Name: "notes", Column: "customer_id"}))
	require.Len(t, plan.Notes, 1, "an index serves the guard")
	require.Contains(t, plan.Notes[0], "jobs of a tenant whose --org-key is no uuid fail there")
	require.Empty(t, h.open())
	h.guarded("notes", two)
}

// guarded says that a job of organisation 1 has its two rows of three, and can do with them
// what it may, by an index, and that the third is out of its reach.
func (h *house) guarded(table, foreign string) {
	h.t.Helper()
	ctx := context.Background()
	require.Equal(h.t, 2, h.count(1, table))
	require.Equal(h.t, 1, h.count(2, table))
	require.Equal(h.t, 0, h.count(3, table))
	h.asOrg(1, func(tx pgx.Tx) {
		if h.may(table, "UPDATE") {
			tag, err := tx.Exec(ctx, `UPDATE `+table+` SET note = 'x'`)
			require.NoError(h.t, err)
			require.EqualValues(h.t, 2, tag.RowsAffected())
		}
		tag, err := tx.Exec(ctx, `DELETE FROM `+table)
		require.NoError(h.t, err)
		require.EqualValues(h.t, 2, tag.RowsAffected())
	})
	inserts := h.may(table, "INSERT")
	h.asOrg(1, func(tx pgx.Tx) {
		_, err := tx.Exec(ctx, `INSERT INTO `+table+` VALUES (10, `+foreign+`, 'x')`)
		require.Error(h.t, err, "a foreign row is written")
		if inserts {
			require.NotContains(h.t, err.Error(), "permission denied")
		}
	})
	h.asOrg(1, func(tx pgx.Tx) {
		_, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off`)
		require.NoError(h.t, err)
		var plan string
		require.NoError(h.t, tx.QueryRow(ctx, `EXPLAIN (FORMAT JSON) SELECT * FROM `+table).Scan(&plan))
		require.Contains(h.t, plan, "Index Cond", "by the column's index")
	})
	tx, err := h.job.Begin(ctx) // without a context
	require.NoError(h.t, err)
	var n int
	require.Error(h.t, tx.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n), "no context is an error, and not 0 rows")
	require.NoError(h.t, tx.Rollback(ctx))
}

// may says whether jobs have a right on what a name leads them to.
func (h *house) may(table, right string) (has bool) {
	h.t.Helper()
	require.NoError(h.t, h.job.QueryRow(context.Background(), `SELECT has_table_privilege($1, $2)`, table, right).Scan(&has))
	return has
}

// A table without an organisation column is reached through its parent, at any depth, and
// through keys of several columns.
func TestThroughAParent(t *testing.T) {
	t.Parallel()
	const schema = shop + `
CREATE TABLE parts (order_id bigint, n int, name text, PRIMARY KEY (order_id, n), FOREIGN KEY (order_id) REFERENCES orders);
CREATE TABLE marks (o bigint NOT NULL, n int NOT NULL, FOREIGN KEY (o, n) REFERENCES parts (order_id, n));
INSERT INTO parts SELECT id, 1, 'p' FROM orders; INSERT INTO marks SELECT order_id, n FROM parts;`
	h := newHouse(t, schema)
	h.refused(h.request(protection.Table{Name: "items", Through: "order_id"}), "protect that first, or name both")
	h.refused(h.request(protection.Table{Name: "items", Through: "n"}), "is no foreign key: its foreign keys are order_id")
	h.protect(h.request(protection.Table{Name: "orders"}, protection.Table{Name: "items", Through: "order_id"}, protection.Table{Name: "parts", Through: "order_id"}, protection.Table{Name: "marks", Through: "o, n"}))
	require.Empty(t, h.open())
	for _, table := range []string{"orders", "items", "parts", "marks"} {
		require.Equal(t, 10, h.count(1, table), table)
		require.Equal(t, 0, h.count(3, table), table)
	}
	h.asOrg(1, func(tx pgx.Tx) {
		_, err := tx.Exec(context.Background(), `INSERT INTO items SELECT 2 - i % 2, 5 FROM generate_series(1, 2) i`)
		require.ErrorContains(t, err, "42501", "an item of another's order")
	})
	// A public parent guards nothing.
	req := h.request(protection.Table{Name: "orders", Public: true})
	req.Reason = "a test"
	h.root(`REVOKE ALL ON orders FROM headgate_job`)
	h.protect(req)
	require.Equal(t, "unguarded public.items\nunguarded public.marks\nunguarded public.parts", h.open())
}

// The same by views: the tables stay as they are, and names without a schema reach the views.
func TestByView(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`CREATE MATERIALIZED VIEW counts AS SELECT org_id, count(*) AS n FROM orders GROUP BY 1; CREATE TABLE loose (id serial, org_id bigint)`)
	plan := h.protect(h.request(protection.Table{Name: "orders", By: protection.ByView}, protection.Table{Name: "items", Through: "order_id", By: protection.ByView},
		protection.Table{Name: "counts", By: protection.ByView}, protection.Table{Name: "loose", By: protection.ByView}))
	require.Empty(t, plan.Harms, "the application notices nothing")
	require.NotNil(t, plan.Path)
	require.Empty(t, h.open())
	require.Equal(t, 10, h.count(1, "orders"))
	require.Equal(t, 10, h.count(1, "items"))
	require.Equal(t, 1, h.count(1, "counts"))
	require.Equal(t, -1, h.count(1, "public.orders"), "the table itself is out of reach")
	require.Equal(t, -1, h.count(1, "public.counts"))
	h.asOrg(1, func(tx pgx.Tx) {
		ctx := context.Background()
		_, err := tx.Exec(ctx, `INSERT INTO orders (org_id, note) VALUES (1, 'own') ON CONFLICT (id) DO NOTHING`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `INSERT INTO loose (org_id) VALUES (1)`)
		require.NoError(t, err, "with its sequence")
		_, err = tx.Exec(ctx, `INSERT INTO orders (org_id, note) VALUES (2, 'foreign')`)
		require.ErrorContains(t, err, "44000")
	})
	var on bool
	require.NoError(t, h.db.Pool.QueryRow(context.Background(), `SELECT relrowsecurity FROM pg_class WHERE oid = 'orders'::regclass`).Scan(&on))
	require.False(t, on)
	for _, c := range []struct{ does, finds string }{
		{`ALTER VIEW headgate_app.orders SET (security_barrier = false)`, "unguarded headgate_app.orders"},
		{`ALTER VIEW headgate_app.orders RESET (check_option)`, "unguarded headgate_app.orders"},
		{`CREATE OR REPLACE VIEW headgate_app.orders WITH (security_barrier, check_option = cascaded) AS SELECT * FROM orders`, "unguarded headgate_app.orders"},
		{`GRANT SELECT ON orders TO headgate_job`, "unguarded public.orders"},
		{`DELETE FROM headgate.protected WHERE object = 'public.items'`, "unguarded headgate_app.items"},
	} {
		h.within(c.does, c.finds)
	}
}

// within runs a statement as the superuser, looks what is open, and undoes it: the second time
// the same request puts everything right again.
func (h *house) within(does, finds string) {
	h.t.Helper()
	ctx := context.Background()
	tx, err := h.db.Pool.Begin(ctx)
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, does)
	require.NoError(h.t, err, does)
	report, err := protection.Inspect(ctx, nested{tx}, protection.Options{Login: h.db.Job.User})
	require.NoError(h.t, err)
	require.Equal(h.t, finds, lines(report.Open()), does)
}

// nested begins a savepoint instead of a transaction.
type nested struct{ pgx.Tx }

func (n nested) BeginTx(ctx context.Context, _ pgx.TxOptions) (pgx.Tx, error) { return n.Begin(ctx) }

// Views, materialized views, definer functions, partitions and tables made later are guarded,
// or not granted and said.
func TestWhatIsNeitherGuardedNorDeclaredIsTaken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`
CREATE VIEW v AS SELECT * FROM orders; CREATE MATERIALIZED VIEW m AS SELECT * FROM orders;
CREATE TABLE log (org_id bigint NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE log_old PARTITION OF log FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
INSERT INTO log VALUES (1, '2025-01-01'), (2, '2025-01-01');
GRANT ALL ON orders, items, countries, v, m, log, log_old TO headgate_job;
GRANT ALL ON SEQUENCE orders_id_seq TO headgate_job`)
	require.Equal(t, `beyond_policies public.countries
beyond_policies public.items
beyond_policies public.log
beyond_policies public.log_old
beyond_policies public.orders
sequence public.orders_id_seq
unguarded public.countries
unguarded public.items
unguarded public.log
unguarded public.log_old
unguarded public.m
unguarded public.orders
unguarded public.v`, h.open())
	h.protect(h.request(protection.Table{Name: "orders"}, protection.Table{Name: "log"}))
	require.Empty(t, h.open())
	require.Equal(t, 10, h.count(1, "orders"))
	require.Equal(t, 1, h.count(1, "log"))
	for _, taken := range []string{"items", "countries", "v", "m", "log_old"} {
		require.Equal(t, -1, h.count(1, taken), taken)
	}
	// A partition and a table that the application makes later are granted to nobody.
	h.mine(`CREATE TABLE log_new PARTITION OF log FOR VALUES FROM ('2026-01-01') TO (MAXVALUE)`, `CREATE TABLE later (org_id bigint)`, `INSERT INTO log VALUES (1, '2026-02-01'), (2, '2026-02-01')`)
	require.Empty(t, h.open())
	require.Equal(t, 2, h.count(1, "log"), "the new partition by its parent's name")
	require.Equal(t, -1, h.count(1, "log_new"))
	require.Equal(t, -1, h.count(1, "later"))
	h.refused(h.request(protection.Table{Name: "log_new"}), "is a partition")
	// Where the application's migrations grant it, jobs stop, and the list says what to do.
	h.mine(`GRANT SELECT ON later TO headgate_job`)
	require.Equal(t, "unguarded public.later", h.open())
	require.Equal(t, "`headgate database protect shared --table public.later`", h.inspect().Findings[0].Next)
	// A definer function is a finding, with its reader's judgement as the way out.
	h.mine(`CREATE FUNCTION total(of text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM orders'`)
	h.protect(h.request(protection.Table{Name: "later"}))
	require.Equal(t, "definer_function public.total(of text)", h.open())
	req := h.request()
	req.Functions = []string{"total"}
	h.refused(req, "say with a reason")
	req.Reason = "it counts only"
	h.protect(req)
	require.Empty(t, h.open())
}

// An invoker copy of the application's view reads one tenant's rows, and the view itself is
// left alone.
func TestACopyOfAView(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`CREATE VIEW recent AS SELECT o.org_id, o.note, i.n FROM orders o JOIN items i ON i.order_id = o.id WHERE o.id > 4; CREATE VIEW over AS SELECT * FROM recent`)
	var version int
	require.NoError(t, h.db.Pool.QueryRow(context.Background(), `SELECT current_setting('server_version_num')::int`).Scan(&version))
	req := h.request(protection.Table{Name: "orders"}, protection.Table{Name: "items", Through: "order_id"})
	req.Views = []string{"recent"}
	if version < 150000 {
		h.refused(req, "needs Postgres 15 or newer")
		return
	}
	alone := h.request()
	alone.Views = []string{"recent"}
	h.refused(alone, "which jobs may not read under a guard of its own")
	h.protect(req)
	require.Empty(t, h.open())
	require.Equal(t, 8, h.count(1, "recent"))
	require.Equal(t, -1, h.count(1, "public.recent"))
	alone.Views = []string{"over"}
	h.refused(alone, "view public.over reads public.recent")
	h.mine(`GRANT SELECT ON recent TO headgate_job`)
	require.Equal(t, "unguarded public.recent", h.open())
}

// The login inherits an application role that sees everything: it still sees one tenant's rows,
// and that it could become that role is a finding.
func TestAJobLoginInAnApplicationRole(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	app := h.role("NOLOGIN")
	h.mine(`GRANT ALL ON orders, items TO ` + app)
	h.protect(h.request(protection.Table{Name: "orders"}))
	h.root(`GRANT ` + app + ` TO ` + h.db.Job.User)
	require.Equal(t, 10, h.count(1, "orders"))
	require.Equal(t, "beyond_policies public.items\nbeyond_policies public.orders\nset_role "+app+"\nunguarded public.items", h.open())
	h.root(h.next("set_role"))
	require.Empty(t, h.open())
}

// next is what is advised of a finding.
func (h *house) next(code string) string {
	h.t.Helper()
	for _, f := range h.inspect().Findings {
		if f.Code == code {
			return f.Next
		}
	}
	h.t.Fatalf("no finding %s", code)
	return ""
}

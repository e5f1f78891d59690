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
	require.Empty(t, plan.Notes, "an index serves the guard")
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
		tag, err := tx.Exec(ctx, `UPDATE `+table+` SET note = 'x'`)
		require.NoError(h.t, err)
		require.EqualValues(h.t, 2, tag.RowsAffected())
		tag, err = tx.Exec(ctx, `DELETE FROM `+table)
		require.NoError(h.t, err)
		require.EqualValues(h.t, 2, tag.RowsAffected())
	})
	h.asOrg(1, func(tx pgx.Tx) {
		_, err := tx.Exec(ctx, `INSERT INTO `+table+` VALUES (10, `+foreign+`, 'x')`)
		require.Error(h.t, err, "a foreign row is written")
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

// Running the same again changes nothing, and asks for no lock of the tables.
func TestAgainChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	req := h.request(protection.Table{Name: "orders", Grant: []string{"select"}}, protection.Table{Name: "items", Through: "order_id", By: protection.ByPolicy})
	h.protect(req)
	before := h.fingerprint()
	plan, err := protection.MakePlan(context.Background(), h.owner, h.request(protection.Table{Name: "orders"}, protection.Table{Name: "items"}))
	require.NoError(t, err)
	require.Empty(t, plan.Statements)
	h.protect(req)
	require.Equal(t, before, h.fingerprint())
	h.mine(`ALTER POLICY headgate_org ON orders USING (org_id > 0)`)
	require.NotEmpty(t, h.open())
	h.protect(req)
	require.Empty(t, h.open(), "what was changed is put right")
}

// Policies of the application's own stay; jobs are bound beside them.
func TestATableWithPolicies(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	app := h.role("LOGIN PASSWORD 'x'")
	h.mine(`GRANT SELECT ON orders TO `+app, `ALTER TABLE orders ENABLE ROW LEVEL SECURITY`, `CREATE POLICY theirs ON orders TO `+app+` USING (org_id = 2)`)
	plan := h.protect(h.request(protection.Table{Name: "orders"}))
	require.Empty(t, plan.Harms, "row-level security was on")
	require.Empty(t, h.open())
	require.Equal(t, 10, h.count(1, "orders"))
	var n int
	require.NoError(t, h.connect(app, "x").QueryRow(context.Background(), `SELECT count(*) FROM orders WHERE org_id = 2`).Scan(&n))
	require.Equal(t, 10, n)
	require.NoError(t, h.connect(app, "x").QueryRow(context.Background(), `SELECT count(*) FROM orders`).Scan(&n))
	require.Equal(t, 10, n, "their policy holds as before")
	// Policies that do not count yet are not made to.
	h.mine(`CREATE POLICY asleep ON items TO ` + app + ` USING (false)`)
	h.refused(h.request(protection.Table{Name: "items", Through: "order_id"}), "switch it on yourself")
}

// What cannot be meant is refused in a sentence, and nothing is changed.
func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`CREATE TABLE ci (org_id text COLLATE "C", day date); CREATE TABLE "Odd Name" (org_id bigint); CREATE VIEW v AS SELECT 1 AS one`)
	for _, c := range []struct {
		table protection.Table
		says  string
	}{
		{protection.Table{Name: "nowhere"}, "there is no table or view nowhere"},
		{protection.Table{Name: "a.b.c.d"}, "a name cannot be read"},
		{protection.Table{Name: "countries"}, "public.countries has no column org_id: name the column"},
		{protection.Table{Name: "orders", Column: "org"}, "has no column org (it has org_id)"},
		{protection.Table{Name: "ci", Column: "day"}, "is of type date: an organisation's column is one of"},
		{protection.Table{Name: "orders", Column: "org_id", Public: true}, "exclude each other"},
		{protection.Table{Name: "countries", Public: true}, "say with a reason"},
		{protection.Table{Name: "v"}, "--view public.v` gives jobs a copy"},
		{protection.Table{Name: "orders_id_seq"}, "is a sequence"},
		{protection.Table{Name: "headgate.ledger"}, "not a table of the application's"},
		{protection.Table{Name: "orders", Grant: []string{"truncate"}}, `"truncate" cannot be granted`},
		{protection.Table{Name: "orders", By: "magic"}, "is no way to guard a table"},
	} {
		h.refused(h.request(c.table), c.says)
	}
	h.refused(h.request(protection.Table{Name: "orders"}, protection.Table{Name: "public.orders"}), "named twice")
	_, err := protection.MakePlan(context.Background(), h.owner, h.request(protection.Table{Name: `"Odd Name"`}))
	require.NoError(t, err)
}

// A table that is in use is not waited for, and nothing is changed.
func TestATableInUse(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	ctx := context.Background()
	tx, err := h.db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT 1 FROM items`)
	require.NoError(t, err)
	h.refused(h.request(protection.Table{Name: "orders"}, protection.Table{Name: "items", Through: "order_id"}), "55P03")
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, -1, h.count(1, "orders"))
}

// A table of another role is protected by that role with what the plan prints, and by the same
// command then.
func TestATableOfAnotherRole(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	other := h.role("LOGIN PASSWORD 'x'")
	h.root(`GRANT ALL ON SCHEMA public TO `+other, `ALTER TABLE orders OWNER TO `+other)
	for _, by := range []string{protection.ByPolicy, protection.ByView} {
		req := h.request(protection.Table{Name: "orders", By: by})
		var foreign *protection.ForeignError
		plan, err := protection.Apply(context.Background(), h.owner, req)
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, []string{other}, foreign.Roles)
		script := plan.Script()
		require.Contains(t, script, "-- as role "+other+":")
		for _, s := range plan.Before {
			h.mine(s.SQL)
		}
		theirs := h.connect(other, "x")
		for _, s := range plan.Statements {
			if s.As == other {
				_, err := theirs.Exec(context.Background(), s.SQL)
				require.NoError(t, err, s.SQL)
			}
		}
		h.protect(req)
		require.Empty(t, h.open())
		require.Equal(t, 10, h.count(1, "orders"))
	}
}

// What a statement sets off behind the table that it names counts too: triggers of partitions
// and children, and triggers and rules of a table that jobs reach through a view.
func TestWhatIsSetOffBehindATable(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop+`
CREATE TABLE log (org_id bigint NOT NULL, at date NOT NULL) PARTITION BY RANGE (at); CREATE INDEX ON log (org_id);
CREATE TABLE log_1 PARTITION OF log DEFAULT;
CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN UPDATE countries SET code = code; RETURN NEW; END';
REVOKE ALL ON FUNCTION spread() FROM PUBLIC`)
	h.protect(h.request(protection.Table{Name: "log"}, protection.Table{Name: "orders", By: protection.ByView}))
	require.Empty(t, h.open())
	for _, c := range []struct{ does, undoes, finds string }{
		{`CREATE TRIGGER s AFTER INSERT ON log_1 FOR EACH ROW EXECUTE FUNCTION spread()`, `DROP TRIGGER s ON log_1`, "definer_function public.spread()"},
		{`CREATE TRIGGER s AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION spread()`, `DROP TRIGGER s ON orders`, "definer_function public.spread()"},
		{`CREATE RULE r AS ON INSERT TO orders DO ALSO UPDATE countries SET code = code`, `DROP RULE r ON orders`, "rule headgate_app.orders"},
		{`CREATE TABLE log_2 (org_id bigint NOT NULL, at date NOT NULL); CREATE TRIGGER s AFTER INSERT ON log_2 FOR EACH ROW EXECUTE FUNCTION spread(); ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`, `DROP TABLE log_2`, "definer_function public.spread()"},
	} {
		before := h.fingerprint()
		h.mine(c.does)
		require.NotEqual(t, before, h.fingerprint(), c.does)
		require.Equal(t, c.finds, h.open(), c.does)
		h.mine(c.undoes)
		require.Empty(t, h.open(), c.undoes)
	}
}

package protection_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

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

package protection_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

const ofItems = `; GRANT SELECT ON items TO headgate_job; ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items TO headgate_job USING `

const ofOrders = `; GRANT SELECT, INSERT ON orders TO headgate_job; ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders TO headgate_job USING (org_id = (SELECT headgate.current_org()))`

// What looks like a guard and lets another tenant's rows through is open: each of these shows
// organisation 2 a row of organisation 1.
func TestWhatLooksGuardedAndIsNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ schema, reads string }{
		"a parent whose children repeat its keys": {`
CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL); CREATE TABLE orders_old () INHERITS (orders);
CREATE TABLE items (order_id bigint REFERENCES orders, secret text);
INSERT INTO orders VALUES (1, 1); INSERT INTO orders_old VALUES (1, 2); INSERT INTO items VALUES (1, 'of 1')` + ofOrders + ofItems + `(EXISTS (SELECT FROM orders o WHERE o.id = order_id))`, `items`},
		"a column that takes different keys for one": {`
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE orders (code text PRIMARY KEY, org_id bigint NOT NULL); CREATE TABLE items (order_code text COLLATE ci, secret text);
INSERT INTO orders VALUES ('abc', 1), ('ABC', 2); INSERT INTO items VALUES ('abc', 'of 1')` + ofOrders + ofItems + `(EXISTS (SELECT FROM orders o WHERE o.code = order_code))`, `items`},
		"a key in another collation": {`
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE orders (code text COLLATE ci, org_id bigint NOT NULL); CREATE UNIQUE INDEX ON orders (code COLLATE "C"); CREATE TABLE items (order_code text COLLATE ci, secret text);
INSERT INTO orders VALUES ('abc', 1), ('ABC', 2); INSERT INTO items VALUES ('abc', 'of 1')` + ofOrders + ofItems + `(EXISTS (SELECT FROM orders o WHERE o.code = order_code))`, `items`},
		"a key that is looked at late": {`
CREATE TABLE orders (id bigint, code text, org_id bigint NOT NULL, UNIQUE (code) DEFERRABLE INITIALLY DEFERRED); CREATE TABLE items (order_code text, secret text);
INSERT INTO orders VALUES (1, 'c1', 1); INSERT INTO items VALUES ('c1', 'of 1')` + ofOrders + ofItems + `(EXISTS (SELECT FROM orders o WHERE o.code = order_code))`, `items`},
		"a cast that loses": {`
CREATE TABLE items (account numeric, secret text); INSERT INTO items VALUES (2.4, 'of 2.4')` + ofItems + `(account::bigint = (SELECT headgate.current_org()))`, `items`},
		"a name with more blanks": {`
CREATE TABLE "p q" (id bigint PRIMARY KEY, org_id bigint); CREATE TABLE "p  q" (id bigint PRIMARY KEY, org_id bigint); CREATE TABLE items (order_id bigint, secret text);
INSERT INTO "p  q" VALUES (1, 1); INSERT INTO items VALUES (1, 'of 1');
GRANT SELECT ON "p q", "p  q" TO headgate_job; ALTER TABLE "p q" ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON "p q" TO headgate_job USING (org_id = (SELECT headgate.current_org()));
INSERT INTO headgate.protected (object, mode, reason) VALUES ('public."p  q"', 'public', 'x')` + ofItems + `(EXISTS (SELECT FROM "p  q" o WHERE o.id = order_id))`, `items`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, c.schema)
			h.asOrg(2, func(tx pgx.Tx) {
				if name == "a key that is looked at late" {
					_, err := tx.Exec(context.Background(), `INSERT INTO orders VALUES (2, 'c1', 2)`)
					require.NoError(t, err)
				}
				var n int
				require.NoError(t, tx.QueryRow(context.Background(), `SELECT count(*) FROM `+c.reads).Scan(&n))
				require.Equal(t, 1, n, "the control: the row is open")
			})
			require.Contains(t, h.open(), "unguarded public."+c.reads)
		})
	}
}

// A row that is checked by another column than it is read by could be given to another tenant.
func TestOneColumnHoldsAllCommands(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `
CREATE TABLE items (org_id bigint, made_for bigint); GRANT SELECT, INSERT ON items TO headgate_job; ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON items TO headgate_job USING (org_id = (SELECT headgate.current_org())) WITH CHECK (made_for = (SELECT headgate.current_org()))`)
	h.asOrg(1, func(tx pgx.Tx) {
		_, err := tx.Exec(context.Background(), `INSERT INTO items VALUES (2, 1)`)
		require.NoError(t, err, "the control: a row of another organisation")
	})
	require.Equal(t, "unguarded public.items", h.open())
	h.root(`ALTER POLICY p ON items WITH CHECK (org_id = (SELECT headgate.current_org()) AND made_for = (SELECT headgate.current_org()))`)
	require.Empty(t, h.open())
}

// A member of headgate_job that the login can become is judged by its own rights.
func TestARoleOfTheGroupHasItsOwnRights(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	h.protect(h.request(protection.Table{Name: "orders"}))
	member := h.role("NOLOGIN IN ROLE headgate_job")
	h.root(`GRANT SELECT ON items TO `+member, `GRANT `+member+` TO `+h.db.Job.User, `ALTER ROLE `+h.db.Job.User+` NOINHERIT`, `ALTER ROLE `+h.db.Job.User+` SET role = headgate_job`)
	h.job = h.login(h.db.Job)
	h.asOrg(2, func(tx pgx.Tx) {
		var n int
		_, err := tx.Exec(context.Background(), `SET LOCAL ROLE `+member)
		require.NoError(t, err)
		require.NoError(t, tx.QueryRow(context.Background(), `SELECT count(*) FROM items`).Scan(&n))
		require.Equal(t, 20, n, "the control: all rows")
	})
	require.Equal(t, "unguarded public.items", h.open())
}

// A view of ours that asks a parent asks one row of it, whatever has become of the parent.
func TestAViewAsksOneParent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	h.protect(h.request(protection.Table{Name: "orders", By: protection.ByView}, protection.Table{Name: "items", Through: "order_id", By: protection.ByView}))
	require.Empty(t, h.open())
	before := h.fingerprint()
	h.root(`ALTER TABLE orders DROP CONSTRAINT orders_pkey CASCADE`)
	require.NotEqual(t, before, h.fingerprint())
	require.Equal(t, "unguarded headgate_app.items", h.open())
}

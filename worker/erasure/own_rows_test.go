package erasure_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// TestAPolicyOfTheApplicationIsNoDeclaration: what a tenant may see, by the first policy that
// names it, was deleted as the tenant's, and the tenant's own rows stayed.
func TestAPolicyOfTheApplicationIsNoDeclaration(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE orders (org_id bigint);
		CREATE TABLE reports (id bigint PRIMARY KEY, org_id bigint NOT NULL, shared_with bigint);
		ALTER TABLE reports ENABLE ROW LEVEL SECURITY;
		CREATE POLICY also_shared ON reports FOR SELECT USING (shared_with = (SELECT headgate.current_org()));
		CREATE POLICY own ON reports USING (org_id = (SELECT headgate.current_org()))`},
		protection.Table{Name: "orders"})
	b.exec(`INSERT INTO orders VALUES (1), (2)`)
	b.exec(`INSERT INTO reports VALUES (1, 1, 2), (2, 2, 1), (3, 1, NULL), (4, 2, NULL)`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	output := b.erased(b.org[1])
	require.Contains(t, output, "not declared, not touched: public.reports (org_id); if it holds rows of tenants, `headgate database protect shop --table public.reports`")
	require.Equal(t, 4, b.number(`SELECT count(*) FROM reports`))
	require.Equal(t, 2, b.number(`SELECT sum(org_id) FROM orders`), "the control: what is declared goes")
}

// TestRowsThatReferToEachOtherStay, and no column is changed. A parent within one table goes
// after its children.
func TestRowsThatReferToEachOtherStay(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE accounts (id bigint PRIMARY KEY, org_id bigint NOT NULL, first_contact bigint);
		CREATE TABLE contacts (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts);
		ALTER TABLE accounts ADD FOREIGN KEY (first_contact) REFERENCES contacts;
		CREATE TABLE letters (account_id bigint NOT NULL REFERENCES accounts);
		CREATE TABLE categories (id bigint PRIMARY KEY, org_id int NOT NULL, parent bigint REFERENCES categories)`},
		protection.Table{Name: "accounts"}, protection.Table{Name: "contacts", Through: "account_id"}, protection.Table{Name: "letters", Through: "account_id"}, protection.Table{Name: "categories"})
	b.exec(`INSERT INTO accounts SELECT n, 1 + n % 2 FROM generate_series(1, 20) n;
		INSERT INTO contacts SELECT n, n FROM generate_series(1, 20) n;
		INSERT INTO letters SELECT n FROM generate_series(1, 20) n;
		UPDATE accounts SET first_contact = id WHERE id <= 10;
		INSERT INTO categories SELECT n, 1 + n % 2, CASE WHEN n > 2 THEN n - 2 END FROM generate_series(1, 20) n`)
	b.work(erasure.Config{Batch: 4}, nil)
	b.remove(b.org[1])
	uid, message := b.failed(b.org[1])
	require.Contains(t, message, "rows of public.accounts and public.contacts refer to each other: have the application set the columns of one foreign key to NULL in the rows of org_id 1, or delete them (")
	require.NotContains(t, message, "not this tenant's")
	require.Equal(t, 5, b.number(`SELECT count(*) FROM accounts WHERE org_id = 1 AND first_contact = id`))
	require.Zero(t, b.number(`SELECT count(*) FROM accounts WHERE org_id = 1 AND first_contact IS NULL`))
	require.Zero(t, b.number(`SELECT count(*) FROM categories WHERE org_id = 1`), "leaf by leaf")
	require.Nil(t, b.erase(b.org[1]).DoneAt)
	b.exec(`UPDATE accounts SET first_contact = NULL WHERE org_id = 1`)
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, 50, b.number(`SELECT (SELECT count(*) FROM accounts) + (SELECT count(*) FROM contacts) + (SELECT count(*) FROM letters) + (SELECT count(*) FROM categories) + 10`))
}

// TestALoopWithinATableStays.
func TestALoopWithinATableStays(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.exec(`INSERT INTO categories VALUES (1, 1, NULL), (2, 1, 1), (3, 1, 2), (4, 1, 4)`)
	b.exec(`UPDATE categories SET parent = 3 WHERE id = 1`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	_, message := b.failed(b.org[1])
	require.Contains(t, message, "rows of public.categories refer to each other")
	require.Equal(t, 3, b.number(`SELECT count(*) FROM categories`))
}

// TestNoKeyReachesAnotherTenantsRow: a key with ON UPDATE CASCADE carried the NULL, by which
// a circle was ended, into another tenant's row.
func TestNoKeyReachesAnotherTenantsRow(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE codes (code text PRIMARY KEY, org_id bigint NOT NULL);
		CREATE TABLE nodes (id bigint PRIMARY KEY, org_id bigint NOT NULL, code text UNIQUE REFERENCES codes (code) ON UPDATE CASCADE);
		CREATE TABLE links (id bigint PRIMARY KEY, org_id bigint NOT NULL, code text REFERENCES nodes (code) ON UPDATE CASCADE ON DELETE SET NULL)`},
		protection.Table{Name: "codes"}, protection.Table{Name: "nodes"}, protection.Table{Name: "links"})
	b.exec(`INSERT INTO codes VALUES ('x', 1), ('y', 1)`)
	b.exec(`INSERT INTO nodes VALUES (1, 1, 'x')`)
	b.exec(`INSERT INTO links VALUES (1, 2, 'x')`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	_, message := b.failed(b.org[1])
	require.Contains(t, message, "public.nodes: 1 row is referred to by rows that are not this tenant's or not declared (links_code_fkey of public.links)")
	require.Contains(t, message, "public.codes: 1 row is referred to by rows of the tenant that stay (nodes_code_fkey of public.nodes)")
	require.Equal(t, 1, b.number(`SELECT count(*) FROM links WHERE code = 'x'`))
	require.Equal(t, 1, b.number(`SELECT count(*) FROM codes`))
}

// TestAPartitionThatComesMeanwhileIsErased: the erasure ended by the plan of its beginning.
func TestAPartitionThatComesMeanwhileIsErased(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE aaa (org_id bigint NOT NULL);
		CREATE TABLE events (org_id bigint NOT NULL, at int NOT NULL) PARTITION BY RANGE (at);
		CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
		CREATE TABLE later (org_id bigint NOT NULL)`},
		protection.Table{Name: "aaa"}, protection.Table{Name: "events"})
	b.exec(`INSERT INTO aaa VALUES (1), (2); INSERT INTO events SELECT 1 + n % 2, n FROM generate_series(0, 9) n; INSERT INTO later VALUES (1), (2)`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	uid := b.meanwhile("aaa", func() {
		b.exec(`CREATE TABLE events_2 (LIKE events); INSERT INTO events_2 SELECT 1 + n % 2, n FROM generate_series(10, 19) n;
			ALTER TABLE events_2 OWNER TO ` + b.db.Owner.User + `; ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)`)
		_, err := protection.Apply(b.ctx, b.owner, protection.Request{Database: "shop", Login: b.db.Job.User, Tables: []protection.Table{{Name: "later"}}})
		require.NoError(t, err)
	})
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, "public.later: 1", "a declaration that comes meanwhile counts too")
	require.Equal(t, 10, b.number(`SELECT count(*) FROM events`))
	require.Zero(t, b.number(`SELECT count(*) FROM events WHERE org_id = 1`))
}

// TestADeclarationThatLeadsNowhereStops the erasure: nobody can tell whose the rows are.
func TestADeclarationThatLeadsNowhereStops(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 2)
	b.exec(`ALTER TABLE item_notes DROP CONSTRAINT item_notes_item_id_fkey`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	_, message := b.failed(b.org[1])
	require.Contains(t, message, "public.item_notes: it is declared through item_id, which is no foreign key any more: declare it anew with `headgate database protect shop --table public.item_notes`")
	require.Zero(t, b.number(`SELECT count(*) FROM items`), "all others are gone")
}

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
	require.Contains(t, message, "public.nodes: 1 are referred to by rows that are not this tenant's or not declared (links_code_fkey of public.links)")
	require.Contains(t, message, "public.codes: 1 are referred to by rows of the tenant that stay (nodes_code_fkey of public.nodes)")
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

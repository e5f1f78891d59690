package importer_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// source is a database of the SaaS's own, with its table of tenants.
func source(t *testing.T) *pgx.Conn {
	t.Helper()
	env, ctx := jobstest.New(t), context.Background()
	pool := env.Database("saas", jobstest.DatabaseOpts{Schema: `
CREATE TABLE accounts (id bigint PRIMARY KEY, key uuid, handle text, title text, tags jsonb, hosts text[], paid boolean);
INSERT INTO accounts SELECT n, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'account-' || n, 'No ' || n, '{"tier": "gold"}', ARRAY['a' || n || '.example'], n % 2 = 0 FROM generate_series(1, 25) n`}).Pool
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

func TestReadQuery(t *testing.T) {
	t.Parallel()
	b, conn := setup(t), source(t)
	table, err := importer.ReadQuery(t.Context(), conn,
		`SELECT id AS org_id, key AS org_key, handle AS slug, title AS name, tags AS labels, hosts AS domains, paid AS "feature.beta" FROM accounts ORDER BY id; -- all`+"\n", importer.QueryOptions{Batch: 10})
	require.ErrorContains(t, err, "query: Postgres refuses it", "a comment behind the end is part of the query")
	require.Nil(t, table)
	table, err = importer.ReadQuery(t.Context(), conn,
		`SELECT id AS org_id, key AS org_key, handle AS slug, title AS name, tags AS labels, hosts AS domains, paid AS "feature.beta" FROM accounts ORDER BY id -- all
;`, importer.QueryOptions{Batch: 10})
	require.NoError(t, err)
	require.Equal(t, 25, table.Rows())
	plan, err := b.Import(t.Context(), table, importer.Options{Database: "shared-1", Source: "crm"})
	require.NoError(t, err)
	require.Equal(t, 25, plan.Added)
	require.Equal(t, "No 7 gold a7.example false 00000000-0000-4000-8000-000000000007", one[string](t, b, `
SELECT concat_ws(' ', t.name, t.labels ->> 'tier', d.domain, t.features ->> 'beta', t.org_key) FROM headgate.tenants t JOIN headgate.tenant_domains d ON d.tenant_id = t.id WHERE t.org_id = 7`))
	require.False(t, conn.IsClosed())
	require.Equal(t, byte('I'), conn.PgConn().TxStatus(), "nothing is left open")
}

func TestQueriesThatAreRefused(t *testing.T) {
	t.Parallel()
	conn := source(t)
	for query, want := range map[string]string{
		"":                           "query: it is empty: give one SELECT",
		"SELECT 1 AS slug; SELECT 2": "query: Postgres refuses it",
		"DELETE FROM accounts":       "no column of it (0) is slug",
		"WITH x AS (DELETE FROM accounts RETURNING handle) SELECT handle AS slug FROM x": "query: Postgres refuses it",
		"SELECT handle AS slug, title AS slug FROM accounts":                             `column "slug" is given twice`,
		"SELECT handle AS slug, title AS nam FROM accounts":                              `column "nam" is unknown (did you mean name?)`,
		"SELECT handle FROM accounts":                                                    "no column of it (1) is slug, org_id, org_key or subdomains: name them with AS",
		"SELECT handle AS slug FROM acounts":                                             `relation "acounts" does not exist`,
		"SELECT handle AS slug FROM accounts WHERE id = $1":                              "query: it has parameters ($1): write the values",
		"SELECT handle AS slug FROM accounts WHERE false":                                "the input has no row",
		"SELECT (handle::int)::text AS slug FROM accounts":                               "Postgres answered with SQLSTATE 22P02",
		"SELECT nextval('s')::text AS slug":                                              "query: it writes; give one SELECT",
	} {
		_, _ = conn.Exec(t.Context(), `CREATE SEQUENCE IF NOT EXISTS s`)
		_, err := importer.ReadQuery(t.Context(), conn, query, importer.QueryOptions{})
		require.ErrorContains(t, err, want, "%q", query)
		require.NotContains(t, err.Error(), "account-1")
		require.Equal(t, byte('I'), conn.PgConn().TxStatus())
	}
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM accounts`).Scan(&n))
	require.Equal(t, 25, n)
	_, err := importer.ReadQuery(t.Context(), conn, "SELECT handle AS slug FROM accounts, pg_sleep(3600)", importer.QueryOptions{Timeout: 20 * time.Millisecond})
	require.ErrorContains(t, err, "raise --source-timeout")
}

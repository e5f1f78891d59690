package importer_test

import (
	"context"
	"strings"
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
		"DELETE FROM accounts":       "none of its 0 columns is slug",
		"WITH x AS (DELETE FROM accounts RETURNING handle) SELECT handle AS slug FROM x": "query: Postgres refuses it",
		"SELECT handle AS slug, title AS slug FROM accounts":                             `column "slug" is given twice`,
		"SELECT handle AS slug, title AS nam FROM accounts":                              `column "nam" is unknown (did you mean name?)`,
		"SELECT handle FROM accounts":                                                    "none of its 1 columns is slug, org_id, org_key or subdomains: name them with AS",
		"SELECT handle AS slug FROM acounts":                                             `query: Postgres refuses it, at character 28: relation "acounts" does not exist (42P01); name a table that this database has, with its schema where that is not in the login's search_path`,
		"SELECT handle AS slug FROM accounts WHERE id = $1":                              "query: it has parameters ($1): write the values",
		"SELECT handle AS slug FROM accounts WHERE false":                                "the input has no row",
		"SELECT (handle::int)::text AS slug FROM accounts":                               "a value of a row does not fit a cast or a function of the query, and is not repeated, because it may be a customer's: find it with psql, and change it, or the query (22P02)",
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

// Each way in which a query on the source fails is one sentence: what, the SQLSTATE, what next.
// No value of a row is in it.
func TestFailuresOfAQueryAreSentences(t *testing.T) {
	t.Parallel()
	ctx, conn := t.Context(), source(t)
	_, err := conn.Exec(ctx, `
CREATE SCHEMA hidden;
CREATE TABLE hidden.accounts (handle text);
GRANT SELECT ON accounts TO pg_monitor;
CREATE TABLE locked (handle text);
GRANT SELECT ON locked TO pg_monitor;
CREATE FUNCTION raises(code text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'of account-1', DETAIL = 'account-1'; END$$;
CREATE TABLE secret (handle text)`)
	require.NoError(t, err)
	other, err := pgx.ConnectConfig(ctx, conn.Config())
	require.NoError(t, err)
	defer func() { _ = other.Close(context.Background()) }()
	_, err = other.Exec(ctx, `BEGIN; LOCK TABLE locked`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `SET ROLE pg_monitor`)
	require.NoError(t, err)
	for query, want := range map[string]string{
		"SELECT handle AS slug FROM secret":                  "query: the source's login may not read this: permission denied for table secret; have its owner GRANT SELECT (and USAGE on its schema) TO that login, or give another login (42501)",
		"SELECT handle AS slug FROM hidden.accounts":         "permission denied for schema hidden; have its owner GRANT SELECT (and USAGE on its schema) TO that login, or give another login (42501)",
		"SELECT handle AS slug FROM gone.accounts":           `query: Postgres refuses it, at character 28: relation "gone.accounts" does not exist (42P01); name a table that this database has, `,
		"SELECT handel AS slug FROM accounts":                `query: Postgres refuses it, at character 8: column "handel" does not exist (42703); name a column that its tables have`,
		"SELECT tags + 1 AS slug FROM accounts":              "query: Postgres refuses it, at character 13: operator does not exist: jsonb + integer (42883); cast its values to types that this function or operator takes",
		"SELECT handle AS slug FROM accounts UNION SELECT 1": "(42804); cast its values to one type",
		"SELEC handle AS slug FROM accounts":                 `query: Postgres refuses it, at character 1: syntax error at or near "SELEC" (42601); give one SELECT`,
		"SELECT (handle::int)::text AS slug FROM accounts":   "a value of a row does not fit a cast or a function of the query, and is not repeated, because it may be a customer's: find it with psql, and change it, or the query (22P02)",
		"SELECT (1/(id-1))::text AS slug FROM accounts":      "find it with psql, and change it, or the query (22012)",
		"SELECT handle AS slug FROM locked":                  "a table of the query was locked by somebody else for half of the time that a statement may take: run the command again, or raise --source-timeout (55P03)",
		"SELECT raises('57014') AS slug":                     "the query took longer than it may, or somebody cancelled it: make it faster, or raise --source-timeout (57014)",
		"SELECT raises('40001') AS slug":                     "run the command again, or give the primary's address (40001)",
		"SELECT raises('53200') AS slug":                     "short of connections, memory or disk: run the command again when it has some (53200)",
		"SELECT raises('54001') AS slug":                     "too complex for the source's server: make it smaller (54001)",
		"SELECT raises('08006') AS slug":                     "the connection to the source was lost: run the command again (08006)",
		"SELECT raises('XX000') AS slug":                     "query: the source's server could not run it, and why is in that server's log (XX000)",
		"SELECT raises('P0001') AS slug":                     "why is in that server's log (P0001)",
	} {
		options := importer.QueryOptions{}
		if strings.Contains(query, "locked") {
			options.Timeout = 2 * time.Second
		}
		_, err := importer.ReadQuery(ctx, conn, query, options)
		require.ErrorContains(t, err, want, query)
		require.NotContains(t, err.Error(), "account-1")
		require.Equal(t, byte('I'), conn.PgConn().TxStatus())
	}
	_, err = conn.Exec(ctx, `RESET ROLE`)
	require.NoError(t, err)
	_, err = importer.ReadQuery(ctx, conn, "SELECT pg_terminate_backend(pg_backend_pid())::text AS slug", importer.QueryOptions{})
	require.ErrorContains(t, err, "the source's server ended the connection: run the command again when it is up (57P01)")
}

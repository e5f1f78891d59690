package migrations_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got, why string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "write it with: go test ./migrations -update")
	require.Equal(t, string(want), got, why)
}

// rightsSQL says what each role of a prefix ($1), and PUBLIC, may do with every schema,
// relation, column, sequence and function of ours, by Postgres's own functions: what comes
// from PUBLIC or from a membership counts. The months and days of the history are one line a table.
const rightsSQL = `
WITH roles AS (SELECT r.oid, substr(r.rolname, length($1) + 2) AS role FROM pg_roles r WHERE r.rolname ~ ('^' || $1 || '_(worker|api|enqueue|read)$')),
relations AS (
    SELECT DISTINCT ON (name) c.oid, c.relkind, name
    FROM pg_class c CROSS JOIN LATERAL (SELECT regexp_replace(c.oid::regclass::text, '[0-9]{4}_[0-9]{2}(_[0-9]{2})?$', 'YYYY_MM') AS name) n
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND (c.relnamespace::regnamespace::text IN ('headgate', 'headgate_api') OR c.relname ~ '^river_' AND c.relnamespace = 'public'::regnamespace)
    ORDER BY name
),
rights AS (
    SELECT 1 AS nth, 'schema ' || n.nspname AS thing, r.role, string_agg(p, ', ') FILTER (WHERE has_schema_privilege(r.oid, n.oid, p)) AS may
    FROM roles r, pg_namespace n, unnest(ARRAY['USAGE', 'CREATE']) p WHERE n.nspname IN ('headgate', 'headgate_api') GROUP BY 2, 3
    UNION ALL
    SELECT 2, name, r.role, string_agg(p, ', ' ORDER BY i) FILTER (WHERE has_table_privilege(r.oid, c.oid, p))
    FROM roles r, relations c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) WITH ORDINALITY u (p, i) WHERE c.relkind <> 'S' GROUP BY 2, 3
    UNION ALL
    SELECT 3, name || ' column ' || a.attname, r.role, string_agg(p, ', ')
    FROM roles r, relations c, pg_attribute a, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p
    WHERE c.relkind <> 'S' AND a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(r.oid, c.oid, a.attnum, p) AND NOT has_table_privilege(r.oid, c.oid, p)
    GROUP BY 2, 3
    UNION ALL
    SELECT 4, 'sequence ' || name, r.role, string_agg(p, ', ') FILTER (WHERE has_sequence_privilege(r.oid, c.oid, p))
    FROM roles r, relations c, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p WHERE c.relkind = 'S' GROUP BY 2, 3
    UNION ALL
    SELECT 5, 'function ' || f.oid::regprocedure::text || CASE WHEN f.prosecdef THEN ' as its owner' ELSE '' END, r.role, CASE WHEN has_function_privilege(r.oid, f.oid, 'EXECUTE') THEN 'EXECUTE' END
    FROM roles r, pg_proc f WHERE f.pronamespace::regnamespace::text IN ('headgate', 'headgate_api')
    UNION ALL
    SELECT 5, 'function ' || f.oid::regprocedure::text || CASE WHEN f.prosecdef THEN ' as its owner' ELSE '' END, 'PUBLIC', 'EXECUTE'
    FROM pg_proc f CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a WHERE f.pronamespace::regnamespace::text IN ('headgate', 'headgate_api') AND a.grantee = 0
)
SELECT thing || ': ' || coalesce(string_agg(role || ' ' || may, '; ' ORDER BY role) FILTER (WHERE may IS NOT NULL), 'nobody')
FROM rights GROUP BY nth, thing ORDER BY nth, thing COLLATE "C"`

// What each role may do is a promise: more is a hole, less breaks a program. A table, column,
// function or sequence that is new has its line here when somebody has thought about it.
func TestGrantsOfTheRoles(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	rows, err := env.Pool.Query(context.Background(), rightsSQL, env.Roles())
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	golden(t, "rights", strings.Join(lines, "\n")+"\n", "write what the roles may do with a new thing into migrations/grants.go")
}

// The columns of the views are a promise to those who read them, and none is sealed.
func TestViewsOfTheAPI(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	rows, err := env.Pool.Query(context.Background(), `
SELECT c.relname || ': ' || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relnamespace = 'headgate_api'::regnamespace AND c.relkind = 'v' GROUP BY c.relname ORDER BY c.relname COLLATE "C"`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	text := strings.Join(lines, "\n") + "\n"
	require.NotContains(t, text, "bytea")
	golden(t, "views", text, "the columns of the views are a promise: add some, and change or remove none")
}

// deniedSQL makes a statement for each way into each relation, and a call of each function.
const deniedSQL = `
SELECT format(s, c.oid::regclass, (SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1))
FROM pg_class c, unnest(ARRAY['SELECT FROM %1$s', 'INSERT INTO %1$s DEFAULT VALUES', 'UPDATE %1$s SET %2$s = DEFAULT', 'DELETE FROM %1$s', 'TRUNCATE %1$s', 'LOCK TABLE %1$s']) s
WHERE c.relkind IN ('r', 'p', 'v') AND (c.relnamespace::regnamespace::text IN ('headgate', 'headgate_api') OR c.relname ~ '^river_' AND c.relnamespace = 'public'::regnamespace)
UNION ALL
SELECT format(s, c.oid::regclass) FROM pg_class c, unnest(ARRAY['SELECT nextval(%L)', 'SELECT setval(%L, 1)']) s
WHERE c.relkind = 'S' AND (c.relnamespace::regnamespace::text IN ('headgate', 'headgate_api') OR c.relname ~ '^river_')
UNION ALL
SELECT format('SELECT %s(%s)', f.oid::regproc, (SELECT string_agg(format('NULL::%s', format_type(a, NULL)), ', ' ORDER BY i) FROM unnest(f.proargtypes::oid[]) WITH ORDINALITY u (a, i)))
FROM pg_proc f WHERE f.pronamespace::regnamespace::text IN ('headgate', 'headgate_api') AND f.prokind = 'f'
ORDER BY 1`

// A login that only enqueues is refused every statement but the one function, and a login
// that only reads all but the views.
func TestEveryOtherStatementIsRefused(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	rows, err := env.Pool.Query(ctx, deniedSQL)
	require.NoError(t, err)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(statements), 300)
	for role, allowed := range map[string][]string{
		"enqueue": {"SELECT headgate.enqueue(", "SELECT headgate.lane(", "SELECT headgate.has_uid(", "SELECT headgate.claim_token(", "SELECT headgate.claim_incarnation("},
		"read":    {"SELECT FROM headgate_api."},
	} {
		_, url := env.RoleLogin(role)
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		var done []string
		for _, sql := range statements {
			tx, err := conn.Begin(ctx) // LOCK wants one
			require.NoError(t, err)
			_, err = tx.Exec(ctx, sql)
			require.NoError(t, tx.Rollback(ctx))
			var said *pgconn.PgError
			if !errors.As(err, &said) || said.Code != "42501" && said.Code != "55000" && said.Code != "42809" && said.Code != "0A000" { // the others: no view is written so
				done = append(done, sql)
			}
		}
		for _, sql := range done {
			fits := false
			for _, beginning := range allowed {
				fits = fits || strings.HasPrefix(sql, beginning)
			}
			require.True(t, fits, "role %s may do: %s", role, sql)
		}
		if role == "enqueue" {
			require.Len(t, done, len(allowed))
		} else {
			require.Len(t, done, 11, "one for each view")
		}
		for _, sql := range []string{`CREATE TABLE headgate.mine ()`, `CREATE TABLE public.mine ()`, `CREATE SCHEMA mine`, `SET ROLE ` + env.Roles() + `_api`, `ALTER FUNCTION headgate.enqueue SECURITY INVOKER`} {
			if sql == `CREATE TABLE public.mine ()` && conn.PgConn().ParameterStatus("server_version") < "15" {
				continue // there everybody may
			}
			_, err := conn.Exec(ctx, sql)
			var said *pgconn.PgError
			require.ErrorAs(t, err, &said, "%s: %s", role, sql)
			require.Equal(t, "42501", said.Code, sql)
		}
	}
}

// Up gives the roles what they lack and takes what they have too much, also when somebody
// else has changed it, and also when they are made after the migrations.
func TestUpGrantsAgain(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	before, err := migrations.ReadRoles(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, "headgate", before.Prefix)
	require.Empty(t, before.There)
	require.Len(t, before.Missing, 5)

	prefix := env.Roles()
	fit := func() migrations.Roles {
		roles, err := migrations.ReadRoles(ctx, conn)
		require.NoError(t, err)
		return roles
	}
	want := migrations.Roles{Prefix: prefix, There: []string{prefix + "_owner", prefix + "_worker", prefix + "_api", prefix + "_enqueue", prefix + "_read"}}
	require.Equal(t, want, fit())
	_, err = conn.Exec(ctx, `REVOKE SELECT ON headgate.tenants FROM `+prefix+`_worker; GRANT DELETE ON headgate.databases TO `+prefix+`_read; GRANT EXECUTE ON FUNCTION headgate.new_uid TO PUBLIC`)
	require.NoError(t, err)
	require.Equal(t, []string{"GRANT SELECT ON TABLE headgate.tenants TO " + prefix + "_worker"}, fit().Lacking)
	require.ElementsMatch(t, []string{"REVOKE DELETE ON TABLE headgate.databases FROM " + prefix + "_read", "REVOKE EXECUTE ON FUNCTION headgate.new_uid() FROM PUBLIC"}, fit().Surplus)
	_, err = migrations.Up(ctx, conn, nil)
	require.NoError(t, err)
	require.Equal(t, want, fit())

	_, err = migrations.Up(ctx, conn, &migrations.UpOpts{Prefix: prefix + "_new"})
	require.NoError(t, err)
	require.Empty(t, fit().There)
	var left int
	require.NoError(t, conn.QueryRow(ctx, `SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname ~ ('^' || $1 || '_')`, prefix).Scan(&left))
	require.Zero(t, left, "the roles of the former prefix keep nothing")
}

func TestPrefixOfRoles(t *testing.T) {
	t.Parallel()
	for prefix, says := range map[string]string{
		"": "1 to 40", "Big": "1 to 40", "a-b": "1 to 40", `x"; DROP`: "1 to 40", "9x": "1 to 40", "pg_hg": "Postgres keeps", strings.Repeat("a", 41): "1 to 40",
	} {
		require.ErrorContains(t, migrations.CheckPrefix(prefix), says)
		_, err := migrations.CentralSQL(prefix)
		require.ErrorContains(t, err, says)
	}
	sql, err := migrations.CentralSQL("shop")
	require.NoError(t, err)
	require.Contains(t, sql, "'shop_enqueue'")
	require.NotContains(t, sql, "PREFIX")
}

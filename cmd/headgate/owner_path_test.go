package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// trapped makes traps in schema %[1]s: they do what Postgres's own do, for the job login %[2]s
// and the superuser, and fail for everybody else, which is the owner.
const trapped = `
CREATE SCHEMA IF NOT EXISTS %[1]s;
GRANT USAGE ON SCHEMA %[1]s TO PUBLIC;
CREATE FUNCTION %[1]s.trap() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF session_user NOT IN ('%[2]s', (SELECT rolname FROM pg_roles WHERE oid = 10)) THEN
        RAISE EXCEPTION 'code of the application ran as %%', session_user;
    END IF;
    RETURN true;
END $$;`

// overloads are called by who gives a value of just that type, under every search_path: those
// of pg_catalog take other types.
const overloads = `
CREATE FUNCTION public.array_step(text[], text) RETURNS text[] LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN pg_catalog.array_append($1, $2) END';
CREATE AGGREGATE public.array_agg(text) (SFUNC = public.array_step, STYPE = text[], INITCOND = '{}');
CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT pg_catalog.unnest($1) WHERE public.trap()';
CREATE FUNCTION public.unnest(oid[]) RETURNS SETOF oid LANGUAGE sql AS 'SELECT pg_catalog.unnest($1) WHERE public.trap()';
CREATE FUNCTION public.aclexplode(aclitem[], OUT grantor oid, OUT grantee oid, OUT privilege_type text, OUT is_grantable boolean) RETURNS SETOF record
    LANGUAGE sql AS 'SELECT * FROM pg_catalog.aclexplode($1) WHERE public.trap()';
CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN pg_catalog.format($1, $2) END';
CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN pg_catalog.format($1, $2, $3) END';
CREATE FUNCTION public.format(text, text, name) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN pg_catalog.format($1, $2, $3) END';
CREATE FUNCTION public.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN pg_catalog.quote_ident($1) END';
CREATE FUNCTION public.like_name(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() AND $1::text OPERATOR(pg_catalog.~~) $2::text';
CREATE FUNCTION public.unlike_name(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() AND $1::text OPERATOR(pg_catalog.!~~) $2::text';
CREATE FUNCTION public.times(numeric, int) RETURNS numeric LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN $1 OPERATOR(pg_catalog.*) $2::numeric END';
CREATE FUNCTION public.times(float8, int) RETURNS float8 LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN $1 OPERATOR(pg_catalog.*) $2::float8 END';
CREATE FUNCTION public.joined(text, oid) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.trap() THEN $1 OPERATOR(pg_catalog.||) $2::text END';
CREATE OPERATOR public.~~ (LEFTARG = name, RIGHTARG = name, FUNCTION = public.like_name);
CREATE OPERATOR public.!~~ (LEFTARG = name, RIGHTARG = name, FUNCTION = public.unlike_name);
CREATE OPERATOR public.* (LEFTARG = numeric, RIGHTARG = int, FUNCTION = public.times);
CREATE OPERATOR public.* (LEFTARG = float8, RIGHTARG = int, FUNCTION = public.times);
CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = oid, FUNCTION = public.joined);`

// copies stand before pg_catalog on the search_path: operators, functions and types of the
// same names.
const copies = `
DO $do$
DECLARE
    o record;
BEGIN
    FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS res FROM pg_operator
             WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b' AND oprname IN ('=', '<>', '<', '>', '>=', '<=', '||', '~~', '!~~', '*', '+', '-', '/', '%', '->>', '~')
               AND oprleft::regtype::text IN ('text', 'name', 'oid', '"char"', 'bigint', 'integer', 'smallint', 'boolean', 'uuid', 'jsonb', 'double precision', 'numeric')
               AND oprright::regtype::text IN ('text', 'name', 'oid', '"char"', 'bigint', 'integer', 'smallint', 'boolean', 'uuid', 'jsonb', 'double precision', 'numeric')
    LOOP
        EXECUTE format('CREATE FUNCTION evil.op(%1$s, %2$s) RETURNS %3$s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.trap(); RETURN $1 OPERATOR(pg_catalog.%4$s) $2; END $f$', o.l, o.r, o.res, o.oprname);
        EXECUTE format('ALTER FUNCTION evil.op(%s, %s) RENAME TO %I', o.l, o.r, 'op' || o.oprname);
        EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)', o.oprname, o.l, o.r, 'op' || o.oprname);
    END LOOP;
    FOR o IN SELECT p.oid, p.proname, pg_get_function_identity_arguments(p.oid) AS args, p.prorettype::regtype AS res,
                    (SELECT coalesce(string_agg('$' || n, ', ' ORDER BY n), '') FROM generate_series(1, p.pronargs) n) AS given
             FROM pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
               AND p.proname IN ('current_setting', 'set_config', 'to_regclass', 'to_regnamespace', 'pg_has_role', 'has_table_privilege', 'row_security_active', 'pg_backend_pid',
                                 'now', 'clock_timestamp', 'current_database', 'pg_get_userbyid', 'has_function_privilege', 'pg_is_in_recovery', 'quote_ident', 'has_schema_privilege', 'format_type', 'pg_partition_root', 'date_part')
               AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[] || p.prorettype) AS a JOIN pg_type t ON t.oid = a WHERE t.typtype = 'p')
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.trap(); RETURN pg_catalog.%I(%s); END $f$', o.proname, o.args, o.res, o.proname, o.given);
    END LOOP;
    EXECUTE 'CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.trap())';
    EXECUTE 'CREATE DOMAIN evil.oid AS pg_catalog.oid CHECK (evil.trap())';
    EXECUTE 'CREATE DOMAIN evil.uuid AS pg_catalog.uuid CHECK (evil.trap())';
    EXECUTE format('ALTER DATABASE %I SET search_path = evil, pg_catalog, public', current_database());
END $do$`

// Whoever may make functions and operators in a tenant's database, as every application may,
// must not have them run with the rights of the owner's login, which reads the signing key.
func TestNoCodeOfTheApplicationRunsAsTheOwner(t *testing.T) {
	t.Parallel()
	for name, traps := range map[string]func(job string) []string{
		"default": func(job string) []string { return []string{fmt.Sprintf(trapped, "public", job), overloads} },
		"database": func(job string) []string {
			return []string{fmt.Sprintf(trapped, "evil", job), copies}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, env, db := shop(t, `
CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL); INSERT INTO organisations VALUES (1, 'Old'), (9, 'Nobody');
CREATE TABLE accounts (id bigint, handle text, title text, plan text); INSERT INTO accounts VALUES (1, 'acme', 'Acme', ''), (2, 'brick', 'Brick', '');
CREATE VIEW headgate_tenants AS SELECT id AS org_id, handle AS slug, title AS name, plan FROM accounts`)
			for _, sql := range traps(db.Job.User) {
				admin(t, db.Job.Database, sql)
			}
			owner, err := pgx.Connect(t.Context(), jobstest.ServerURL(t, db.Owner.Database))
			require.NoError(t, err)
			defer func() { require.NoError(t, owner.Close(t.Context())) }()
			_, err = owner.Exec(t.Context(), `SET SESSION AUTHORIZATION `+pgx.Identifier{db.Owner.User}.Sanitize())
			require.NoError(t, err)
			_, err = owner.Exec(t.Context(), `SELECT array_agg(x) FROM (VALUES (CURRENT_USER::pg_catalog.text)) AS v (x) WHERE x = 'a'::pg_catalog.text OR true`)
			if name == "database" {
				_, err = owner.Exec(t.Context(), `SELECT pg_backend_pid()`)
			}
			require.ErrorContains(t, err, "code of the application ran as "+db.Owner.User, "the control: the trap works")

			c.ok("database", "install", "shared-1")
			c.ok("database", "protect", "shared-1", "--table", "public.orders", "--dry-run")
			c.ok("database", "protect", "shared-1", "--table", "public.orders")
			c.ok("database", "protect", "shared-1", "--declared")
			c.ok("database", "protect", "shared-1", "--table", "public.countries", "--public", "--reason", "the same for all")
			c.ok("database", "protect", "shared-1", "--withdraw", "public.countries")
			for _, f := range examined(t, c, cli.ExitOK) {
				require.NotContains(t, f.Says, "ran as")
			}
			work(env)
			for _, args := range [][]string{
				{"headgate.analyze", "--database", "shared-1"},
				{"headgate.vacuum", "--database", "shared-1"},
				{"headgate.organisations", "--database", "shared-1", "--args", `{"table": "public.organisations", "remove": true}`},
				{"headgate.sync", "--database", "shared-1", "--args", `{"table": "public.headgate_tenants", "source": "crm", "new_tenants_in": "shared-1"}`},
				{"headgate.purge", "--tenant", "acme", "--args", `{"table": "public.orders", "column": "placed_at", "older_than": "30d"}`},
			} {
				uid := enqueued(t, c.ok(append([]string{"job", "enqueue", "-o", "json"}, args...)...))
				end := env.WaitFor(uid, func(jobs.Outcome) bool { return true })
				require.Equal(t, jobs.Succeeded, end.State, "%s: %s", args[0], end.Message)
			}
			c.ok("database", "restored", "shared-1", "--to", time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
		})
	}
}

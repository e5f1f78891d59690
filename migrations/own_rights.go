package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ALTER DEFAULT PRIVILEGES gives others rights on whatever a role makes, and so on Headgate's
// tables and functions. Such rights are taken from what one installation has made, before its
// COMMIT. Rights that somebody gives afterwards stay.

// selectOwnObjects are the objects of schema headgate, and the schema once Headgate is
// installed in it.
const selectOwnObjects = `
SELECT coalesce(array_agg(o.key), '{}') FROM (
    SELECT 'class/' || c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace = pg_catalog.to_regnamespace('headgate')
    UNION ALL
    SELECT 'proc/' || p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = pg_catalog.to_regnamespace('headgate')
    UNION ALL
    SELECT 'schema/' || n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'headgate' AND pg_catalog.to_regclass('headgate.migrations') IS NOT NULL
) o (key)`

func ownObjects(ctx context.Context, tx pgx.Tx) (keys []string, err error) {
	if err := tx.QueryRow(ctx, selectOwnObjects).Scan(&keys); err != nil {
		return nil, fmt.Errorf("looking at schema headgate: %w", err)
	}
	return keys, nil
}

// selectOwnRights are the statements that bring the rights on new objects, those that are not
// in $1, to what the migrations grant. headgate_job may use the schema and execute the
// functions of $2. A right on a column can only be the migrations' own, because there are no
// default privileges for columns; REVOKE on the table takes it away, so it is granted again.
const selectOwnRights = `
WITH object AS (
    SELECT 'SCHEMA headgate' AS name, 'n'::"char" AS type, 'schema/' || n.oid AS key, n.nspowner AS owner, n.nspacl AS acl, 'USAGE' AS job, NULL::oid AS class
    FROM pg_namespace n WHERE n.nspname = 'headgate'
    UNION ALL
    SELECT format('%s headgate.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname),
           (CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", 'class/' || c.oid, c.relowner, c.relacl, '', c.oid
    FROM pg_class c WHERE c.relnamespace = 'headgate'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    SELECT 'FUNCTION ' || p.oid::regprocedure, 'f'::"char", 'proc/' || p.oid, p.proowner, p.proacl,
           CASE WHEN p.proname = ANY ($2) THEN 'EXECUTE' ELSE '' END, NULL
    FROM pg_proc p WHERE p.pronamespace = 'headgate'::regnamespace
), fresh AS (
    SELECT o.* FROM object o WHERE o.key <> ALL ($1)
), excess AS (
    SELECT DISTINCT o.name, o.class, o.job, a.grantee, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS who
    FROM fresh o CROSS JOIN LATERAL aclexplode(coalesce(o.acl, acldefault(o.type, o.owner))) a
    WHERE a.grantee <> o.owner AND NOT (a.grantee = 'headgate_job'::regrole AND a.privilege_type = o.job AND NOT a.is_grantable)
)
SELECT sql FROM (
    SELECT 1, format('REVOKE ALL ON %s FROM %s CASCADE', e.name, e.who) FROM excess e
    UNION ALL
    SELECT 2, format('GRANT %s ON %s TO %s', e.job, e.name, e.who) FROM excess e WHERE e.grantee = 'headgate_job'::regrole AND e.job <> ''
    UNION ALL
    SELECT 3, format('GRANT %s (%I) ON %s TO %s', a.privilege_type, t.attname, e.name, e.who)
    FROM excess e JOIN pg_attribute t ON t.attrelid = e.class CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE a.grantee = e.grantee
    UNION ALL
    SELECT 4, format('GRANT ALL ON %s TO %I', o.name, pg_get_userbyid(o.owner)) FROM fresh o
    WHERE EXISTS (SELECT d.privilege_type FROM aclexplode(acldefault(o.type, o.owner)) d WHERE d.grantee = o.owner
                  EXCEPT SELECT a.privilege_type FROM aclexplode(o.acl) a WHERE a.grantee = o.owner) AND o.acl IS NOT NULL
) s (rank, sql)
ORDER BY rank, sql`

// ownRights takes away what default privileges gave on what was made since before.
func ownRights(ctx context.Context, tx pgx.Tx, before []string) error {
	rows, _ := tx.Query(ctx, selectOwnRights, before, JobFunctions) // its error is CollectRows' too
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for rights by default privileges: %w", err)
	}
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("taking away rights by default privileges (%s): %w", sql, err)
		}
	}
	return nil
}

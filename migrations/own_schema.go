package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
)

// ErrForeignSchema: schema headgate of a tenant database, or something in it, is another
// role's than the owner login's. That role could change what Headgate's functions do there.
var ErrForeignSchema = jobs.Sentinel("foreign_schema", "schema headgate must be the owner login's alone")

// Foreign is a thing of schema headgate that another role controls.
type Foreign struct {
	Says string // what it is, and whose
	Next string // what to do
}

// selectForeign are the schema, what lies in it, and the rights to make things there, as far as
// they are others' than the owner login's ($2; "" is CURRENT_USER) or, if ALTER ROLE … SET role gives
// that login a role to work as, that role's. Membership in the owner does not count, because the
// owner has its rights anyway.
//
// pg_depend lists what lies in a schema, of every kind: tables, functions, types, operators,
// default privileges. A part of an extension counts as the extension. pg_shdepend names the
// owner, and leaves the role that initdb made (OID 10) out.
const selectForeign = `
WITH space AS (
    SELECT n.oid, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl FROM pg_namespace n WHERE n.nspname = 'headgate'
), part AS (
    SELECT DISTINCT coalesce(e.refclassid, d.classid) AS classid, coalesce(e.refobjid, d.objid) AS objid
    FROM space s JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = s.oid
    LEFT JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
), owned AS (
    SELECT p.classid, p.objid, coalesce(c.relowner, f.proowner, t.typowner, x.extowner, o.refobjid, 10::oid) AS owner
    FROM part p
    LEFT JOIN pg_class c ON p.classid = 'pg_class'::regclass AND c.oid = p.objid
    LEFT JOIN pg_proc f ON p.classid = 'pg_proc'::regclass AND f.oid = p.objid
    LEFT JOIN pg_type t ON p.classid = 'pg_type'::regclass AND t.oid = p.objid
    LEFT JOIN pg_extension x ON p.classid = 'pg_extension'::regclass AND x.oid = p.objid
    LEFT JOIN pg_shdepend o ON o.classid = p.classid AND o.objid = p.objid AND o.objsubid = 0 AND o.deptype = 'o'
                           AND o.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
), me AS (
    SELECT r.oid, quote_ident(r.rolname) AS name FROM pg_roles r
    WHERE r.rolname = coalesce((SELECT substr(c.setting, 6) FROM pg_db_role_setting s JOIN pg_roles l ON l.oid = s.setrole CROSS JOIN unnest(s.setconfig) c (setting)
                                 WHERE l.rolname = $2 AND c.setting LIKE 'role=%' AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
                                 ORDER BY s.setdatabase DESC LIMIT 1), nullif($2, ''), CURRENT_USER)
)
SELECT says, next FROM (
    SELECT 1, format('schema headgate belongs to role %I and not to the owner login %s, so that role could change or drop what Headgate makes there', pg_get_userbyid(s.nspowner), me.name),
           format('if the schema was made for Headgate, have an administrator run ALTER SCHEMA headgate OWNER TO %s; if the application uses it, have that renamed: ALTER SCHEMA headgate RENAME TO another name', me.name)
    FROM space s, me WHERE s.nspowner <> me.oid
    UNION ALL
    SELECT 2, format('%s %s belongs to role %I and not to the owner login %s', i.type, i.identity, pg_get_userbyid(o.owner), me.name),
           CASE o.classid WHEN 'pg_default_acl'::regclass THEN 'have that role run ALTER DEFAULT PRIVILEGES IN SCHEMA headgate REVOKE ALL ON what it says FROM whom \ddp shows'
                WHEN 'pg_extension'::regclass THEN format('have its owner run ALTER EXTENSION %s SET SCHEMA public', i.identity)
                ELSE format('move it away or drop it, or, if Headgate made it, have an administrator run ALTER %s %s OWNER TO %s', upper(i.type), i.identity, me.name) END
    FROM owned o CROSS JOIN me CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i WHERE o.owner <> me.oid
    UNION ALL
    SELECT 3, format('%s may make functions and tables in schema headgate', w.who), format('have the schema''s owner run REVOKE CREATE ON SCHEMA headgate FROM %s', w.who)
    FROM space s CROSS JOIN LATERAL aclexplode(s.acl) a
    CROSS JOIN LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) w (who)
    WHERE a.privilege_type = 'CREATE' AND a.grantee <> s.nspowner
) f (rank, says, next)
ORDER BY rank, says, next LIMIT $1`

// mostForeign is how many things are read.
const mostForeign = 20

// ForeignThings returns up to 20 things of schema headgate that are others' than the owner
// login's, the schema first. owner is the login's name, and "" is the role that the session
// works as. Every login of the database may ask. A database without the schema has none.
func ForeignThings(ctx context.Context, conn *pgx.Conn, owner string) (things []Foreign, err error) {
	begin := pgx.TxOptions{BeginQuery: session.BeginReadOnly + ";" + session.OwnPath}
	err = pgx.BeginTxFunc(ctx, conn, begin, func(tx pgx.Tx) error {
		things, err = foreignThings(ctx, tx, owner)
		return err
	})
	return things, err
}

func foreignThings(ctx context.Context, tx pgx.Tx, owner string) ([]Foreign, error) {
	rows, _ := tx.Query(ctx, selectForeign, mostForeign, owner) // its error is CollectRows' too
	things, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Foreign])
	if err != nil {
		return nil, fmt.Errorf("asking whose schema headgate is: %w", err)
	}
	return things, nil
}

// RefuseForeign fails with [ErrForeignSchema] if something of schema headgate is another role's
// than the owner login's, whose connection this is. It reads Postgres' own catalogs only, so
// it may be called before anything in the schema is trusted.
func RefuseForeign(ctx context.Context, conn *pgx.Conn) error {
	things, err := ForeignThings(ctx, conn, "")
	if err != nil {
		return err
	}
	return refused(things)
}

func refused(things []Foreign) error {
	if len(things) == 0 {
		return nil
	}
	more := ""
	if n := len(things) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Errorf("%w: %s%s; nothing was written; %s", ErrForeignSchema, things[0].Says, more, things[0].Next)
}

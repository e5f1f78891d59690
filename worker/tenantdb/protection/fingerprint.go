package protection

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/session"
)

// selectFingerprint adds up hashes of all that Inspect judges: of the row versions, and of
// values in pg_class, whose rows change with each TRUNCATE. A change of a catalog's row makes
// a new row version, with another xmin at another place; ANALYZE and VACUUM write their
// figures into the old one. Temporary tables are left out, because a
// job may make one at any time.
//
// pg_roles and headgate.protected show the login no row versions, so their values count. The
// server's start counts too: after a failover the same xmin may stand for something else.
const selectFingerprint = `
WITH RECURSIVE mine AS (
    SELECT oid AS role FROM pg_catalog.pg_roles WHERE rolname = session_user
    UNION
    SELECT m.roleid FROM mine JOIN pg_catalog.pg_auth_members m ON m.member = mine.role
), temporary AS (
    SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't'
)
SELECT pg_catalog.concat_ws('.',
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(c.oid, c.relname, c.relnamespace, c.relowner, c.relkind, c.relrowsecurity, c.relispartition, c.relacl, c.reloptions), 0)) FROM pg_catalog.pg_class c
    WHERE (c.oid >= 16384 OR c.relacl IS NOT NULL) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(p.oid, p.xmin, p.ctid), 0)) FROM pg_catalog.pg_policy p
    WHERE p.polrelid NOT IN (SELECT oid FROM temporary)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(p.oid, p.xmin, p.ctid), 0)) FROM pg_catalog.pg_proc p
    WHERE (p.prosecdef OR p.oid >= 16384 OR p.proacl IS NOT NULL) AND p.pronamespace NOT IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'pg\_temp\_%')),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(d.classid, d.objid, d.refobjid), 0)) FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid >= 16384 AND d.deptype <> 'e'),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(i.indexrelid, i.xmin, i.ctid), 0)) FROM pg_catalog.pg_index i
    WHERE i.indisunique AND i.indrelid >= 16384 AND i.indrelid NOT IN (SELECT oid FROM temporary)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(a.attrelid, a.attnum, a.xmin, a.ctid), 0)) FROM pg_catalog.pg_attribute a
    WHERE a.attrelid >= 16384 AND (a.attnum > 0 OR a.attacl IS NOT NULL) AND a.attrelid NOT IN (SELECT oid FROM temporary)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(r.oid, r.xmin, r.ctid), 0)) FROM pg_catalog.pg_rewrite r
    WHERE r.oid >= 16384 AND r.ev_class NOT IN (SELECT oid FROM temporary)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(t.oid, t.xmin, t.ctid), 0)) FROM pg_catalog.pg_trigger t
    WHERE NOT t.tgisinternal AND t.tgrelid NOT IN (SELECT oid FROM temporary)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(i.inhrelid, i.inhparent, i.xmin, i.ctid), 0)) FROM pg_catalog.pg_inherits i
    WHERE i.inhrelid NOT IN (SELECT oid FROM temporary)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(n.oid, n.xmin, n.ctid), 0)) FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\_%temp\_%'),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(d.oid, d.xmin, d.ctid), 0)) FROM pg_catalog.pg_default_acl d),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(e.oid, e.xmin, e.ctid), 0)) FROM pg_catalog.pg_extension e),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(e.oid, e.xmin, e.ctid), 0)) FROM pg_catalog.pg_event_trigger e),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(f.oid, f.xmin, f.ctid), 0)) FROM pg_catalog.pg_foreign_server f),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(m.umid, m.srvid, m.umuser), 0)) FROM pg_catalog.pg_user_mappings m),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(m.roleid, m.member, m.xmin, m.ctid), 0)) FROM pg_catalog.pg_auth_members m
    WHERE m.member IN (SELECT role FROM mine)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(s.setdatabase, s.setrole, s.xmin, s.ctid), 0)) FROM pg_catalog.pg_db_role_setting s
    WHERE s.setrole IN (SELECT role FROM mine)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(
            ROW(r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolreplication, r.rolbypassrls), 0)) FROM pg_catalog.pg_roles r
    WHERE r.oid IN (SELECT role FROM mine)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(d.oid, d.xmin, d.ctid), 0)) FROM pg_catalog.pg_database d
    WHERE d.datname = pg_catalog.current_database()),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(ROW(d.object, d.mode, d.org_column, d.through, d.shown_by, d.brand_column), 0)) FROM headgate.protected d),
  pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()))`

// Fingerprint returns a text of some 300 bytes that differs from an earlier one of the same
// login in the same database whenever anything that [Inspect] judges has changed in
// between. It may differ without need: after a restart, or when a table got a column.
//
// It is a read-only transaction of one query, needs no more than the job login's rights, and
// runs in any exec mode.
func Fingerprint(ctx context.Context, conn Beginner) (value string, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: session.BeginReadOnly})
	if err != nil {
		return "", fmt.Errorf("taking the fingerprint of the database's rights: %w", err)
	}
	defer func() { err = errors.Join(err, rollback(ctx, tx)) }()
	if _, err := enter(ctx, tx); err != nil {
		return "", err
	}
	return fingerprint(ctx, tx)
}

// fingerprint is Fingerprint in a transaction that has entered.
func fingerprint(ctx context.Context, tx pgx.Tx) (value string, err error) {
	if err := tx.QueryRow(ctx, selectFingerprint).Scan(&value); err != nil {
		return "", fmt.Errorf("taking the fingerprint of the database's rights: %w", err)
	}
	return value, nil
}

package provision

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// selectOthers counts who else is connected to the database of this session.
const selectOthers = `
SELECT count(*) FROM pg_stat_activity
WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid() AND usesysid IS NOT NULL`

// selectContents is what Headgate did not make: whatever is not in schema headgate, and in
// schema headgate what is not its owner's ($1), of every kind of object there is. Indexes, row types and the like belong to a
// table that is named. From oid 16384 on nothing came with the database from template0.
const selectContents = `
SELECT what FROM (
    SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.oid::regclass, n.nspname, c.relowner
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL SELECT 'function ' || p.oid::regprocedure, n.nspname, p.proowner
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid >= 16384
    UNION ALL SELECT 'type ' || t.oid::regtype, n.nspname, t.typowner
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid >= 16384 AND t.typrelid = 0 AND t.typelem = 0
    UNION ALL SELECT 'schema ' || n.oid::regnamespace, n.nspname, n.nspowner FROM pg_namespace n WHERE n.oid >= 16384
    UNION ALL SELECT 'extension ' || e.extname, '', e.extowner FROM pg_extension e WHERE e.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_collation'::regclass, o.oid, 0), n.nspname, o.collowner FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_operator'::regclass, o.oid, 0), n.nspname, o.oprowner FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_opclass'::regclass, o.oid, 0), n.nspname, o.opcowner FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_opfamily'::regclass, o.oid, 0), n.nspname, o.opfowner FROM pg_opfamily o JOIN pg_namespace n ON n.oid = o.opfnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_conversion'::regclass, o.oid, 0), n.nspname, o.conowner FROM pg_conversion o JOIN pg_namespace n ON n.oid = o.connamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_ts_config'::regclass, o.oid, 0), n.nspname, o.cfgowner FROM pg_ts_config o JOIN pg_namespace n ON n.oid = o.cfgnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_ts_dict'::regclass, o.oid, 0), n.nspname, o.dictowner FROM pg_ts_dict o JOIN pg_namespace n ON n.oid = o.dictnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_statistic_ext'::regclass, o.oid, 0), n.nspname, o.stxowner FROM pg_statistic_ext o JOIN pg_namespace n ON n.oid = o.stxnamespace WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_ts_parser'::regclass, o.oid, 0), '', 0 FROM pg_ts_parser o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_ts_template'::regclass, o.oid, 0), '', 0 FROM pg_ts_template o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_foreign_data_wrapper'::regclass, o.oid, 0), '', o.fdwowner FROM pg_foreign_data_wrapper o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_foreign_server'::regclass, o.oid, 0), '', o.srvowner FROM pg_foreign_server o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_cast'::regclass, o.oid, 0), '', 0 FROM pg_cast o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_language'::regclass, o.oid, 0), '', o.lanowner FROM pg_language o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_event_trigger'::regclass, o.oid, 0), '', o.evtowner FROM pg_event_trigger o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_transform'::regclass, o.oid, 0), '', 0 FROM pg_transform o WHERE o.oid >= 16384
    UNION ALL SELECT pg_describe_object('pg_am'::regclass, o.oid, 0), '', 0 FROM pg_am o WHERE o.oid >= 16384
    UNION ALL SELECT 'user mapping for ' || m.usename || ' on ' || m.srvname, '', 0 FROM pg_user_mappings m
    UNION ALL SELECT 'publication ' || p.pubname, '', p.pubowner FROM pg_publication p
    UNION ALL SELECT 'large object ' || l.oid, '', l.lomowner FROM pg_largeobject_metadata l
) o (what, schema, owner)
WHERE o.schema !~ '^pg_(toast|temp)' AND NOT (o.schema = 'headgate' AND o.owner = (SELECT r.oid FROM pg_roles r WHERE r.rolname = $1))
ORDER BY what
LIMIT 6`

// untouched says what in a database that this intent made is somebody else's.
func untouched(ctx context.Context, conn *pgx.Conn, i catalog.Intent) error {
	var sessions int
	if err := conn.QueryRow(ctx, selectOthers).Scan(&sessions); err != nil {
		return fmt.Errorf("asking who is in database %s: %w", i.DBName, err)
	}
	if sessions > 0 {
		return fmt.Errorf("%s connected to database %s: end what is connected, and run the command again; nothing was removed", jobs.CountVerb(sessions, "session", "is", "are"), i.DBName)
	}
	rows, _ := conn.Query(ctx, selectContents, i.Owner) // its error is CollectRows' too
	contents, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("asking what is in database %s: %w", i.DBName, err)
	}
	if len(contents) > 0 {
		return fmt.Errorf("database %s has what Headgate did not make: %s: drop it if nobody needs it, and run the command again; nothing was removed", i.DBName, some(contents))
	}
	return nil
}

// selectOwned is what roles ($1) own in this database outside schema headgate.
const selectOwned = `
SELECT pg_describe_object(s.classid, s.objid, s.objsubid)
FROM pg_shdepend s CROSS JOIN LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) o
WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  AND s.refclassid = 'pg_authid'::regclass AND s.refobjid IN (SELECT r.oid FROM pg_roles r WHERE r.rolname = ANY ($1)) AND s.deptype = 'o'
  AND coalesce(o.schema, '') <> 'headgate' AND NOT (o.type = 'schema' AND o.identity = 'headgate')
ORDER BY 1
LIMIT 6`

// ownsOnlyOurs refuses to take from a database what somebody has made as one of its logins.
func ownsOnlyOurs(ctx context.Context, tx pgx.Tx, roles []string) error {
	rows, _ := tx.Query(ctx, selectOwned, roles) // its error is CollectRows' too
	owned, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("asking what %s own: %w", strings.Join(roles, " and "), err)
	}
	if len(owned) > 0 {
		return fmt.Errorf("%s own what Headgate did not make: %s: give it another owner or drop it, and run the command again; nothing was removed", strings.Join(roles, " and "), some(owned))
	}
	return nil
}

// some names up to five things.
func some(things []string) string {
	if len(things) > 5 {
		return strings.Join(things[:5], ", ") + " and more"
	}
	return strings.Join(things, ", ")
}

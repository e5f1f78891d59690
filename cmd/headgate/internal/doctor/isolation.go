package doctor

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// selectUncallable are those of Headgate's functions that a job login needs ($1) and may
// not call.
const selectUncallable = `
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'headgate'::regnamespace AND p.proname = ANY ($1) AND NOT has_function_privilege(p.oid, 'EXECUTE')
ORDER BY 1`

// callable says which of Headgate's functions the job login may not call.
func (d *doctor) callable(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	rows, _ := conn.Query(ctx, selectUncallable, migrations.JobFunctions) // its error is CollectRows' too
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		d.on("database "+db.Name)(StateFail, "functions", "", "could not look: %v", err)
	case len(missing) > 0:
		d.on("database "+db.Name)(StateFail, "functions", "have an administrator run there: GRANT EXECUTE ON FUNCTION "+strings.Join(missing, ", ")+" TO headgate_job",
			"the job login may not call %d of Headgate's functions: jobs wait, class not_permitted", len(missing))
	}
}

// What a job login can do that it should not be able to: it is a superuser, it
// passes row-level security by, it owns tables or is a member of a role that
// does; and the tables with an org_id that it can read and that have no
// row-level security, up to four names.
const selectRights = `
SELECT r.rolsuper, r.rolbypassrls,
       EXISTS (SELECT FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relnamespace <> 'pg_catalog'::regnamespace
               AND NOT r.rolsuper AND pg_has_role(r.oid, c.relowner, 'MEMBER')),
       ARRAY(SELECT c.oid::regclass::text FROM pg_class c
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND n.nspname NOT IN ('headgate', 'pg_catalog', 'information_schema')
             AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')
             ORDER BY 1 LIMIT 4)
FROM pg_roles r WHERE r.rolname = current_user`

// rights are the facts of isolation that can be read off the catalogs.
func (d *doctor) rights(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	note := d.on("database " + db.Name)
	var super, bypass, owns bool
	var open []string
	if err := conn.QueryRow(ctx, selectRights).Scan(&super, &bypass, &owns, &open); err != nil {
		note(StateFail, "isolation", "", "could not look: %v", err)
		return
	}
	state := StateWarn
	if db.Kind == catalog.KindShared {
		state = StateFail // its jobs could see other tenants' rows
	}
	switch {
	case super || bypass:
		note(state, "isolation", "give the database a job login that is neither: `headgate database login "+db.Name+"`",
			"the job login is a superuser or passes row-level security by: nothing holds its jobs to their tenant's rows")
	case owns:
		note(state, "isolation", "give the tables to another role, or the database another job login", "the job login owns tables, or is a member of a role that does: row-level security does not hold it")
	case db.Kind == catalog.KindShared && len(open) > 0:
		note(StateWarn, "isolation", "ENABLE ROW LEVEL SECURITY on them, with a policy on org_id for headgate_job",
			"tables with an org_id and without row-level security are open to the job login: %s", strings.Join(open, ", "))
	default:
		note(StateOK, "isolation", "", "the job login is no superuser, passes no row-level security by and owns no table")
	}
}

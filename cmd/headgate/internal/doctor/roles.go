package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
)

// selectLogin says as whom doctor is connected: whether that is a superuser, which of some
// roles ($1) the login has the rights of, and whether it owns schema headgate.
const selectLogin = `
SELECT r.rolname::text, r.rolsuper,
       ARRAY(SELECT m.rolname::text FROM pg_roles m WHERE m.rolname = ANY ($1) AND pg_has_role(CURRENT_USER, m.oid, 'USAGE') ORDER BY array_position($1::text[], m.rolname::text)),
       pg_has_role(CURRENT_USER, n.nspowner, 'USAGE')
FROM pg_roles r, pg_namespace n WHERE r.rolname = CURRENT_USER AND n.nspname = 'headgate'`

// centralRoles says as which role doctor is connected, and which rights the roles lack.
func (d *doctor) centralRoles(ctx context.Context, pool *pgxpool.Pool) {
	note := d.on("central")
	roles, err := migrations.ReadRoles(ctx, pool)
	if err != nil {
		note(StateFail, "roles", "see that its login may read the tables of schema headgate", "could not look: %v", err)
		return
	}
	d.centralLogin(ctx, pool, roles)
	if len(roles.There) > 0 {
		d.largeObjects(ctx, pool)
	}
	switch {
	case len(roles.There) == 0:
		note(StateOK, "roles", "", "none: `headgate central prepare --prefix %s` makes one for each program", roles.Prefix)
	case len(roles.Missing) > 0:
		note(StateWarn, "roles", "`headgate central prepare --prefix "+roles.Prefix+"`, then `headgate migrate up`", "the server lacks %s", strings.Join(roles.Missing, ", "))
	case len(roles.Lacking)+len(roles.Surplus) > 0:
		all := slices.Concat(roles.Lacking, roles.Surplus)
		note(StateWarn, "roles", "`headgate migrate up`, as a member of "+roles.Prefix+"_owner or as the owner of schema headgate", "%s wrong, the first: %s", jobs.CountVerb(len(all), "right", "is", "are"), all[0])
	default:
		note(StateOK, "roles", "", "%s have what they need", strings.Join(roles.There, ", "))
	}
}

func (d *doctor) centralLogin(ctx context.Context, pool *pgxpool.Pool, roles migrations.Roles) {
	note := d.on("central")
	var login string
	var super, owns bool
	var memberOf []string
	if err := pool.QueryRow(ctx, selectLogin, roles.There).Scan(&login, &super, &memberOf, &owns); err != nil {
		note(StateFail, "login", "see that its login may read the tables of schema headgate", "could not look: %v", err)
		return
	}
	switch {
	case super:
		note(StateWarn, "login", "give each program a login of its own: `headgate central prepare` makes the roles, CREATE ROLE … LOGIN PASSWORD … IN ROLE "+roles.Prefix+"_worker a worker's login",
			"the login %s is a superuser: whoever has its password has the whole server", login)
	case len(memberOf) > 0:
		note(StateOK, "login", "", "%s, a member of %s", login, strings.Join(memberOf, ", "))
	case owns:
		note(StateOK, "login", "", "%s, who owns schema headgate", login)
	default:
		note(StateOK, "login", "", "%s, a member of no role of Headgate's", login)
	}
}

// selectLargeObjects are Postgres's own functions that make large objects and that everybody
// may call, and roles that have large objects in this database: 5 at most, of 10,000 objects.
const selectLargeObjects = `
SELECT ARRAY(SELECT p.oid::regprocedure::text FROM pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import')
               AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')
             ORDER BY 1),
       ARRAY(SELECT DISTINCT quote_ident(r.rolname) FROM (SELECT m.lomowner FROM pg_largeobject_metadata m LIMIT 10000) m JOIN pg_roles r ON r.oid = m.lomowner ORDER BY 1 LIMIT 5)`

// largeObjects warns where each login that may connect, also one that only reads, may fill the
// disc of the central database with large objects. Postgres gives that to PUBLIC.
func (d *doctor) largeObjects(ctx context.Context, pool *pgxpool.Pool) {
	note := d.on("central")
	var open, owners []string
	if err := pool.QueryRow(ctx, selectLargeObjects).Scan(&open, &owners); err != nil {
		note(StateFail, "large objects", "see that its login may read pg_proc and pg_largeobject_metadata", "could not look: %v", err)
		return
	}
	if len(open) == 0 {
		note(StateOK, "large objects", "", "nobody makes them by a right of PUBLIC")
		return
	}
	first, theirs := "", "no role has one yet"
	if len(owners) > 0 {
		theirs = "the roles that have some: " + strings.Join(owners, ", ")
		first = "if the roles are to go on making them, GRANT EXECUTE ON FUNCTION " + strings.Join(open, ", ") + " TO " + strings.Join(owners, ", ") + "; then "
	}
	note(StateWarn, "large objects", first+"REVOKE EXECUTE ON FUNCTION "+strings.Join(open, ", ")+" FROM PUBLIC, by a superuser in the central database",
		"each login that may connect may fill the disc with large objects, also one that only enqueues or reads; %s", theirs)
}

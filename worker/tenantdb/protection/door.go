package protection

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// door leads past all policies without a relation: a foreign server that somebody else's
// login is kept for, or a function of Postgres's own that a fresh server gives to nobody.
type door struct {
	Function bool
	Name     string // as SQL names it
	Held     string // who has it, as REVOKE names them: PUBLIC, roles
}

// selectDoors reads those that a role of $1 may use. What a fresh server gives stands in
// pg_init_privs.
const selectDoors = `
SELECT false, pg_catalog.quote_ident(f.srvname),
       coalesce((SELECT pg_catalog.string_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END, ', ')
                   FROM pg_catalog.aclexplode(f.srvacl) AS x WHERE x.grantee <> f.srvowner AND (x.grantee = 0 OR pg_catalog.pg_has_role(($1::oid[])[1], x.grantee, 'MEMBER'))), '')
  FROM pg_catalog.pg_foreign_server f
 WHERE EXISTS (SELECT FROM unnest($1::oid[]) AS r WHERE pg_catalog.has_server_privilege(r, f.oid, 'USAGE'))
   AND EXISTS (SELECT FROM pg_catalog.pg_user_mappings m WHERE m.srvid = f.oid AND (m.umuser = 0 OR m.umuser = ANY ($1)))
UNION ALL
SELECT true, pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
       coalesce((SELECT pg_catalog.string_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END, ', ')
                   FROM pg_catalog.aclexplode(p.proacl) AS x WHERE x.grantee <> p.proowner AND (x.grantee = 0 OR pg_catalog.pg_has_role(($1::oid[])[1], x.grantee, 'MEMBER'))), '')
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_init_privs i ON i.classoid = 'pg_catalog.pg_proc'::regclass AND i.objoid = p.oid AND i.privtype = 'i'
 WHERE p.proacl IS DISTINCT FROM i.initprivs
   AND EXISTS (SELECT FROM unnest($1::oid[]) AS r WHERE pg_catalog.has_function_privilege(r, p.oid, 'EXECUTE')
               AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(i.initprivs) AS x WHERE CASE x.grantee WHEN 0 THEN true ELSE pg_catalog.pg_has_role(r, x.grantee, 'USAGE') END))
 ORDER BY 1, 2`

func readDoors(ctx context.Context, tx pgx.Tx, l login) ([]door, error) {
	return collect[door](ctx, tx, "foreign servers and functions of the server", selectDoors, l.as())
}

func (s *state) judgeDoors() (all []Finding) {
	for _, d := range s.doors {
		if d.Function {
			all = append(all, Finding{
				Level: Open, Code: "server_function", Object: d.Name, Next: fmt.Sprintf("REVOKE EXECUTE ON FUNCTION %s FROM %s", d.Name, d.Held),
				Says: fmt.Sprintf("jobs may call %s, which Postgres gives to nobody: it reaches past every table's policies", d.Name),
			})
			continue
		}
		all = append(all, Finding{
			Level: Open, Code: "foreign_server", Object: d.Name, Next: fmt.Sprintf("REVOKE USAGE ON FOREIGN SERVER %s FROM %s", d.Name, d.Held),
			Says: fmt.Sprintf("jobs may use foreign server %s with the login that a user mapping keeps: what that login reads there, no policy here limits", d.Name),
		})
	}
	return all
}

package protection

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
)

// ownRight is one right of the login on something of schema headgate.
type ownRight struct {
	Object string // headgate.name; a function's with its argument types
	Short  string
	Column string // "" for a right on the whole
	Right  string // as GRANT names it
	Holder string // as REVOKE names it, or ""
}

// selectOwnRights reads what the role $1 may do with what is Headgate's own: each column that
// it may read or write, tables as a whole, the schema, and functions that run with the
// owner's rights.
const selectOwnRights = `
WITH mine AS (
    SELECT c.oid, c.relname, c.relacl FROM pg_catalog.pg_class c WHERE c.relnamespace = 'headgate'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
)
SELECT pg_catalog.format('headgate.%I', m.relname), m.relname::text, a.attname::text, w.kind, ''
  FROM mine m JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
  CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) AS w(kind) WHERE pg_catalog.has_column_privilege($1::oid, m.oid, a.attnum, w.kind)
UNION ALL
SELECT pg_catalog.format('headgate.%I', m.relname), m.relname::text, '', w.kind, ''
  FROM mine m CROSS JOIN (VALUES ('DELETE'), ('TRUNCATE'), ('TRIGGER')) AS w(kind) WHERE pg_catalog.has_table_privilege($1::oid, m.oid, w.kind)
UNION ALL
SELECT 'headgate', '', '', 'CREATE', '' WHERE pg_catalog.has_schema_privilege($1::oid, 'headgate'::regnamespace, 'CREATE')
UNION ALL
SELECT p.oid::regprocedure::text, p.proname::text, '', 'EXECUTE',
       CASE WHEN EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS x WHERE x.grantee = 0) THEN 'PUBLIC' ELSE '' END
  FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'headgate'::regnamespace AND p.prosecdef AND pg_catalog.has_function_privilege($1::oid, p.oid, 'EXECUTE')
 ORDER BY 1, 3, 4`

func readOwnRights(ctx context.Context, tx pgx.Tx, l login) ([]ownRight, error) {
	return collect[ownRight](ctx, tx, "rights on Headgate's own tables", selectOwnRights, l.oid)
}

// meant says whether the migrations grant the right.
func (o ownRight) meant() bool {
	if o.Right == "EXECUTE" {
		return slices.Contains(migrations.JobFunctions, o.Short)
	}
	return o.Right == "SELECT" && slices.Contains(migrations.JobColumns[o.Short], o.Column)
}

// judgeOwn compares the login's rights with those that the migrations grant. A job that
// could write the ledger or the fence could forge what has been done.
func (s *state) judgeOwn() (all []Finding) {
	if s.login.super { // said already
		return nil
	}
	seen := map[string]bool{}
	for _, o := range s.own {
		key := o.Object + " " + o.Right
		if o.meant() || seen[key] {
			continue
		}
		seen[key] = true
		from := "PUBLIC, " + jobGroup + ", " + s.login.name
		f := Finding{Level: Open, Code: "own_rights", Object: o.Object}
		switch {
		case o.Object == "headgate":
			f.Says, f.Next = "the job login may create things in schema headgate", "REVOKE CREATE ON SCHEMA headgate FROM "+from
		case o.Right == "EXECUTE":
			f.Says, f.Next = fmt.Sprintf("the job login may call %s, which is Headgate's own", o.Object), fmt.Sprintf("REVOKE EXECUTE ON FUNCTION %s FROM %s", o.Object, from)
		default:
			f.Says, f.Next = fmt.Sprintf("the job login has %s on %s, which is Headgate's own", o.Right, o.Object), fmt.Sprintf("REVOKE %s ON %s FROM %s", o.Right, o.Object, from)
			if meant := migrations.JobColumns[o.Short]; o.Right == "SELECT" && len(meant) > 0 { // these columns stay
				f.Next += fmt.Sprintf("; GRANT SELECT (%s) ON %s TO %s", strings.Join(meant, ", "), o.Object, jobGroup)
			}
		}
		all = append(all, f)
	}
	return all
}

// space is a schema where the login may create things.
type space struct {
	Schema string
	Public bool // as everybody may
}

const selectSpaces = `
SELECT pg_catalog.quote_ident(n.nspname), EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) AS x WHERE x.grantee = 0 AND x.privilege_type = 'CREATE')
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('headgate', 'information_schema') AND pg_catalog.has_schema_privilege($1::oid, n.oid, 'CREATE')
   AND NOT pg_catalog.pg_has_role($1::oid, n.nspowner, 'MEMBER')
 ORDER BY 1`

func readSpaces(ctx context.Context, tx pgx.Tx, l login) ([]space, error) {
	return collect[space](ctx, tx, "schemas", selectSpaces, l.oid)
}

func (s *state) judgeSpaces() (all []Finding) {
	for _, sp := range s.spaces {
		from, why := s.login.name+", "+jobGroup, ""
		if sp.Public {
			from, why = "PUBLIC", ", as everybody may"
		}
		all = append(all, Finding{
			Level: Note, Code: "create", Object: sp.Schema, Next: fmt.Sprintf("REVOKE CREATE ON SCHEMA %s FROM %s", sp.Schema, from),
			Says: fmt.Sprintf("the job login may create tables and functions in schema %s%s: what a job leaves there meets other tenants' jobs and the application", sp.Schema, why),
		})
	}
	return all
}

// defaultRight is a rule that gives jobs rights on tables made later.
type defaultRight struct {
	Role    string // who makes them
	Schema  string // "" for every one
	Kind    string // r, f or S
	Grantee string
}

const selectDefaults = `
SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(d.defaclrole)), coalesce(pg_catalog.quote_ident(n.nspname), ''), d.defaclobjtype::text,
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END
  FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace, pg_catalog.aclexplode(d.defaclacl) AS x
 WHERE d.defaclobjtype = 'r' AND x.grantee <> d.defaclrole AND CASE x.grantee WHEN 0 THEN true ELSE pg_catalog.pg_has_role($1::oid, x.grantee, 'USAGE') END
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 4`

func readDefaults(ctx context.Context, tx pgx.Tx, l login) ([]defaultRight, error) {
	return collect[defaultRight](ctx, tx, "default privileges", selectDefaults, l.oid)
}

func (s *state) judgeDefaults() (all []Finding) {
	for _, d := range s.defaults {
		in := ""
		if d.Schema != "" {
			in = " IN SCHEMA " + d.Schema
		}
		all = append(all, Finding{
			Level: Note, Code: "default_privileges", Object: d.Grantee,
			Next: fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s%s REVOKE ALL ON TABLES FROM %s", d.Role, in, d.Grantee),
			Says: fmt.Sprintf("default privileges of %s%s give %s each new table: the next one is open to jobs, and they stop until it is guarded", d.Role, in, d.Grantee),
		})
	}
	return all
}

package protection

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rights are privileges on a relation, or on any of its columns.
type rights struct {
	Select, Insert, Update, Delete, Truncate, References, Trigger bool
}

func (r rights) any() bool { return r != rights{} }

func (r rights) writes() bool { return r.Insert || r.Update || r.Delete }

// names are as GRANT has them.
func (r rights) names() (all []string) {
	for _, one := range []struct {
		has  bool
		name string
	}{
		{r.Select, "SELECT"}, {r.Insert, "INSERT"}, {r.Update, "UPDATE"}, {r.Delete, "DELETE"},
		{r.Truncate, "TRUNCATE"}, {r.References, "REFERENCES"}, {r.Trigger, "TRIGGER"},
	} {
		if one.has {
			all = append(all, one.name)
		}
	}
	return all
}

// relation is a table, view or sequence that the login may touch.
type relation struct {
	relationRow

	as       map[uint32]rights // by the role as which a statement may run
	policies []policy
}

type relationRow struct {
	OID        uint32
	Name       string // schema.name, with quotes where SQL needs them
	Schema     string // likewise
	Short      string // its name alone
	Kind       string // as pg_class.relkind
	Guarded    bool   // row-level security is on
	Owner      string
	Owned      bool // by the login, or by a role that it is a member of
	Partition  bool
	Invoker    bool // a view with its reader's rights
	Barrier    bool
	Check      bool // WITH CASCADED CHECK OPTION
	Extension  string
	Rules      []string // that rewrite statements, with the owner's rights; for a view of ours also those behind it
	Holders    []string // who holds rights on it, as REVOKE names them: PUBLIC, roles
	Uniques    []string // the columns of each unique index that holds at once and for all rows a query finds, between commas: ,a,b,
	Loose      []string // columns of which different values may be equal (a collation that is not deterministic)
	Columns    []string // all of its columns
	Types      []string // their types, in the same order
	Parents    []string // of each foreign key: the columns here, an arrow, the table there
	Heirs      []string // tables that inherit from it and are no partitions: their rows are found in it
	Definition string   // a view's, of schema headgate_app only
}

// selectRelations reads what any role of $1 may touch, and the relations $2. Relations of the system's schemas
// count only where somebody has granted rights on them: pg_statistic holds values of all
// tenants' rows. A relation in a schema that no such role may use counts if a view, function
// or policy leads to it.
const selectRelations = `
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname),
       c.relkind::text, c.relrowsecurity, pg_catalog.quote_ident(o.rolname), pg_catalog.pg_has_role(($1::oid[])[1], c.relowner, 'MEMBER'), c.relispartition,
       EXISTS (SELECT FROM unnest(c.reloptions) AS x WHERE x IN ('security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes')),
       EXISTS (SELECT FROM unnest(c.reloptions) AS x WHERE x IN ('security_barrier=true', 'security_barrier=on', 'security_barrier=1', 'security_barrier=yes')),
       coalesce('check_option=cascaded' = ANY (c.reloptions), false),
       coalesce((SELECT e.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e' LIMIT 1), ''),
       ARRAY(SELECT pg_catalog.quote_ident(w.rulename) FROM pg_catalog.pg_rewrite w WHERE w.ev_type <> '1' AND w.ev_enabled <> 'D' AND (w.ev_class = c.oid
              OR n.nspname = 'headgate_app' AND w.ev_class IN (SELECT d.refobjid FROM pg_catalog.pg_rewrite v JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = v.oid
                    WHERE v.ev_class = c.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass)) ORDER BY 1),
       ARRAY(SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END
               FROM (SELECT c.relacl AS acl UNION ALL SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL) s,
                    pg_catalog.aclexplode(s.acl) AS x
              WHERE CASE x.grantee WHEN 0 THEN true ELSE pg_catalog.pg_has_role(($1::oid[])[1], x.grantee, 'USAGE') OR x.grantee = ANY ($1) END ORDER BY 1),
       ARRAY(SELECT ',' || pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',') || ',' FROM pg_catalog.pg_index i
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
              WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
                AND NOT (c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid)) GROUP BY i.indexrelid),
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT k.collisdeterministic),
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT CASE b.typnamespace WHEN 'pg_catalog'::regnamespace THEN b.typname::text ELSE '' END FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
               JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(y.typbasetype, 0), y.oid) WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k(col, n)
                       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.col)
                    || '>' || (SELECT pg_catalog.format('%I.%I', pn.nspname, pc.relname) FROM pg_catalog.pg_class pc JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace WHERE pc.oid = f.confrelid)
               FROM pg_catalog.pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' ORDER BY 1),
       ARRAY(SELECT pg_catalog.format('%I.%I', hn.nspname, hc.relname) FROM pg_catalog.pg_inherits h
               JOIN pg_catalog.pg_class hc ON hc.oid = h.inhrelid JOIN pg_catalog.pg_namespace hn ON hn.oid = hc.relnamespace
              WHERE h.inhparent = c.oid AND c.relkind = 'r' ORDER BY 1),
       CASE WHEN n.nspname = 'headgate_app' AND c.relkind = 'v' THEN pg_catalog.pg_get_viewdef(c.oid) ELSE '' END,
       r.oid, p.*
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
  CROSS JOIN unnest($1::oid[]) AS r(oid)
  CROSS JOIN LATERAL (
    SELECT pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT'), pg_catalog.has_any_column_privilege(r.oid, c.oid, 'INSERT'),
           pg_catalog.has_any_column_privilege(r.oid, c.oid, 'UPDATE'), pg_catalog.has_table_privilege(r.oid, c.oid, 'DELETE'),
           pg_catalog.has_table_privilege(r.oid, c.oid, 'TRUNCATE'), pg_catalog.has_any_column_privilege(r.oid, c.oid, 'REFERENCES'),
           pg_catalog.has_table_privilege(r.oid, c.oid, 'TRIGGER')) AS p(s, i, u, d, t, f, g)
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND (c.oid = ANY ($2) OR (p.s OR p.i OR p.u OR p.d OR p.t OR p.f OR p.g)
   AND n.nspname NOT IN ('headgate', 'information_schema')
   AND (n.nspname <> 'pg_catalog' OR c.oid >= 16384 OR c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject'))
   AND (pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
        OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid
                      AND d.classid IN ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_policy'::regclass)
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy own WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND own.oid = d.objid AND own.polrelid = c.oid))))
 ORDER BY 2`

// grantedRow is a relation as one role meets it.
type grantedRow struct {
	relationRow

	As uint32
	rights
}

// policy is a policy as the login and its group meet it.
type policy struct {
	Table      uint32
	Name       string
	Permissive bool
	Command    string // r, a, w, d or *
	Using      string // "" for none
	Check      string // likewise
	For        []uint32
}

// selectPolicies reads those on the relations $2, and for which roles of $1 each holds.
const selectPolicies = `
SELECT p.polrelid, pg_catalog.quote_ident(p.polname), p.polpermissive, p.polcmd::text,
       coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ''), coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), ''),
       ARRAY(SELECT r FROM unnest($1::oid[]) AS r
              WHERE EXISTS (SELECT FROM unnest(p.polroles) AS o WHERE CASE o WHEN 0 THEN true ELSE pg_catalog.pg_has_role(r, o, 'USAGE') END))
  FROM pg_catalog.pg_policy p WHERE p.polrelid = ANY ($2) ORDER BY 1, 2`

// readRelations returns what a statement of the login may touch, and what is asked for, by
// name.
func readRelations(ctx context.Context, tx pgx.Tx, l login, asked []uint32) (map[string]*relation, error) {
	granted, err := collectGranted(ctx, tx, l, asked)
	if err != nil {
		return nil, err
	}
	all, byOID, oids := map[string]*relation{}, map[uint32]*relation{}, []uint32{}
	for _, g := range granted {
		r := all[g.Name]
		if r == nil {
			r = &relation{relationRow: g.relationRow, as: map[uint32]rights{}}
			all[g.Name], byOID[g.OID], oids = r, r, append(oids, g.OID)
		}
		r.as[g.As] = g.rights
	}
	policies, err := collect[policy](ctx, tx, "policies", selectPolicies, l.as(), oids)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		byOID[p.Table].policies = append(byOID[p.Table].policies, p)
	}
	return all, nil
}

// collectGranted scans by hand, because of the struct within a struct.
func collectGranted(ctx context.Context, tx pgx.Tx, l login, asked []uint32) ([]grantedRow, error) {
	rows, _ := tx.Query(ctx, selectRelations, l.as(), asked) // its error is CollectRows' too
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g grantedRow, err error) {
		err = row.Scan(&g.OID, &g.Name, &g.Schema, &g.Short, &g.Kind, &g.Guarded, &g.Owner, &g.Owned, &g.Partition,
			&g.Invoker, &g.Barrier, &g.Check, &g.Extension, &g.Rules, &g.Holders, &g.Uniques, &g.Loose, &g.Columns, &g.Types, &g.Parents, &g.Heirs, &g.Definition,
			&g.As, &g.Select, &g.Insert, &g.Update, &g.Delete, &g.Truncate, &g.References, &g.Trigger)
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking at the tables that the job login may touch: %w", err)
	}
	return all, nil
}

// has returns the rights that any of the roles has.
func (r *relation) has() (sum rights) {
	for _, one := range r.as {
		sum = rights{
			sum.Select || one.Select, sum.Insert || one.Insert, sum.Update || one.Update, sum.Delete || one.Delete,
			sum.Truncate || one.Truncate, sum.References || one.References, sum.Trigger || one.Trigger,
		}
	}
	return sum
}

// kindName is what people call it.
func (r *relation) kindName() string {
	switch {
	case r.Partition:
		return "partition"
	case r.Kind == "v":
		return "view"
	case r.Kind == "m":
		return "materialized view"
	case r.Kind == "f":
		return "foreign table"
	case r.Kind == "S":
		return "sequence"
	}
	return "table"
}

// who names the holders of its rights in a sentence.
func (r *relation) who() string {
	if len(r.Holders) == 0 {
		return "the job login"
	}
	return strings.Join(r.Holders, ", ")
}

func (r *relation) hasColumn(name string) bool { return slices.Contains(r.Columns, name) }

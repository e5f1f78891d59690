package relation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// selectLook has a row for each table: names $1, uses $2 as bits of a trigger's event, and
// whether $3 the heirs are left out. The columns $5 are of the tables whose places are $4; $6
// are the places of tables of which all columns are named. $7 to $11 are the lists of allow.go:
// kinds, steady, casting, extended, current.
//
// met are the tables whose triggers and rules run: the table, and those that a foreign key's
// action changes. made are expressions that Postgres computes: those of indexes, statistics and
// partition keys by whoever names a table, others by whoever writes rows, those of domains where a
// value comes to be of the domain. A foreign key's action computes them too, with the rights of
// who owns the changed table: these count where the login does. Each is read as its tree, because
// pg_depend has no row for what is Postgres's own.
const selectLook = `
WITH RECURSIVE named (n, oid, event, alone) AS (
    SELECT x.n::int, pg_catalog.to_regclass(x.name)::oid, x.event, x.alone
      FROM unnest($1::text[], $2::int[], $3::bool[]) WITH ORDINALITY AS x (name, event, alone, n)
), down (n, oid, event) AS (
    SELECT n, oid, event FROM named
    UNION
    SELECT d.n, i.inhrelid, d.event FROM down d JOIN named t ON t.n = d.n AND NOT t.alone JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid
), up (n, oid, event) AS (
    SELECT n, oid, event FROM down
    UNION
    SELECT u.n, i.inhparent, u.event FROM up u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.oid WHERE u.event & 20 > 0
), met (n, oid, event) AS (
    SELECT n, oid, event FROM down WHERE event > 0
    UNION
    SELECT m.n, f.conrelid, CASE WHEN m.event & 8 > 0 AND f.confdeltype = 'c' THEN 8 ELSE 0 END | CASE WHEN m.event & 8 > 0 AND f.confdeltype IN ('n', 'd') THEN 16 ELSE 0 END
                          | CASE WHEN m.event & 16 > 0 AND f.confupdtype IN ('c', 'n', 'd') THEN 16 ELSE 0 END
      FROM met m JOIN pg_catalog.pg_constraint f ON f.confrelid = m.oid AND f.contype = 'f'
     WHERE m.event & 8 > 0 AND f.confdeltype IN ('c', 'n', 'd') OR m.event & 16 > 0 AND f.confupdtype IN ('c', 'n', 'd')
), triggers (n, says, tree, function) AS (
    SELECT DISTINCT m.n, pg_catalog.format('trigger %I of %s', g.tgname, g.tgrelid::regclass), g.tgqual::text, g.tgfoid
      FROM met m JOIN pg_catalog.pg_trigger g ON g.tgrelid = m.oid AND g.tgtype & m.event > 0 AND g.tgenabled <> 'D'
), computed (n, oid, event) AS (
    SELECT n, oid, event FROM down
    UNION
    SELECT m.n, m.oid, m.event FROM met m JOIN pg_catalog.pg_class c ON c.oid = m.oid AND pg_catalog.pg_get_userbyid(c.relowner) = session_user
), stored (n, says, tree) AS MATERIALIZED (
    SELECT d.n, pg_catalog.format('index %s', i.indexrelid::regclass), pg_catalog.concat(i.indexprs::text, i.indpred::text) FROM computed d JOIN pg_catalog.pg_index i ON i.indrelid = d.oid
    UNION ALL
    SELECT d.n, pg_catalog.format('statistics %I', s.stxname), s.stxexprs::text FROM computed d JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = d.oid
    UNION ALL
    SELECT u.n, pg_catalog.format('the partition key of %s', u.oid::regclass), p.partexprs::text FROM up u JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = u.oid
    UNION ALL
    SELECT d.n, pg_catalog.format('constraint %I of %s', c.conname, d.oid::regclass), pg_catalog.concat(c.conbin::text, ' :opnos (o ' || pg_catalog.array_to_string(c.conexclop, ' ') || ')')
      FROM computed d JOIN pg_catalog.pg_constraint c ON c.conrelid = d.oid AND c.contype IN ('c', 'x') WHERE d.event & 20 > 0
    UNION ALL
    SELECT d.n, pg_catalog.format('the default of column %I of %s', a.attname, d.oid::regclass), f.adbin::text
      FROM computed d JOIN pg_catalog.pg_attrdef f ON f.adrelid = d.oid JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE d.event & 20 > 0
    UNION ALL
    SELECT g.n, g.says, g.tree FROM triggers g
), coerced (n, oid) AS (
    SELECT d.n, a.atttypid FROM computed d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE d.event & 20 > 0
    UNION
    SELECT m.n, x.found[2]::oid FROM stored m CROSS JOIN LATERAL pg_catalog.regexp_matches(m.tree, ` + mentions + `, 'g') AS x (found) WHERE x.found[1] <> 'vartype'
    UNION
    SELECT r.n, p.oid FROM coerced r JOIN pg_catalog.pg_type y ON y.oid = r.oid ` + partsAndChecked + `
), made (n, says, tree) AS MATERIALIZED (
    SELECT n, says, tree FROM stored
    UNION ALL
    SELECT r.n, pg_catalog.format('constraint %I of type %s', c.conname, r.oid::regtype), c.conbin::text FROM coerced r JOIN pg_catalog.pg_constraint c ON c.contypid = r.oid
    UNION ALL
    SELECT r.n, pg_catalog.format('the default of type %s', r.oid::regtype), y.typdefaultbin::text FROM coerced r JOIN pg_catalog.pg_type y ON y.oid = r.oid AND y.typdefaultbin IS NOT NULL
), others (oid) AS (
    SELECT r.oid FROM pg_catalog.pg_roles r WHERE NOT r.rolsuper AND r.rolname <> session_user
), reached (n, says, oid, read) AS (
    SELECT m.n, m.says, x.found[2]::oid, x.found[1] = 'vartype' FROM made m CROSS JOIN LATERAL pg_catalog.regexp_matches(m.tree, ` + mentions + `, 'g') AS x (found)
    UNION
    SELECT r.n, r.says, p.oid, r.read FROM reached r JOIN pg_catalog.pg_type y ON y.oid = r.oid ` + parts + `
), foreign_types (n, says, oid, typtype, read) AS (
    SELECT r.n, r.says, r.oid, y.typtype, r.read FROM reached r JOIN pg_catalog.pg_type y ON y.oid = r.oid AND y.typowner IN (SELECT oid FROM others)
), operators (n, says, oid) AS (
    SELECT m.n, m.says, o.oid::oid FROM made m CROSS JOIN LATERAL pg_catalog.regexp_matches(m.tree, ':opnos? (?:[(]o )?([0-9 ]+)', 'g') AS x (found)
     CROSS JOIN LATERAL pg_catalog.regexp_split_to_table(pg_catalog.btrim(x.found[1]), ' +') AS o (oid)
), called (n, says, oid, fires) AS (
    SELECT m.n, m.says, x.found[1]::oid, false FROM made m CROSS JOIN LATERAL pg_catalog.regexp_matches(m.tree, ':[a-z]*funcid ([0-9]+)', 'g') AS x (found)
    UNION
    SELECT c.n, c.says, o.oprcode::oid, false FROM operators c JOIN pg_catalog.pg_operator o ON o.oid = c.oid
    UNION
    SELECT g.n, g.says, g.function, true FROM triggers g
), code (n, says) AS (
    SELECT c.n, pg_catalog.format('%s (%s)', c.says, f.name)
      FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.oid JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
     CROSS JOIN LATERAL (SELECT pg_catalog.format('%I.%I(%s)', s.nspname, p.proname, (
           SELECT coalesce(pg_catalog.string_agg(pg_catalog.format('%I.%I', tn.nspname, t.typname), ', ' ORDER BY a.n), '')
             FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, n)
             JOIN pg_catalog.pg_type t ON t.oid = a.type JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace))) AS f (name)
     WHERE NOT CASE
               WHEN p.proowner IN (SELECT oid FROM others) THEN false
               WHEN s.nspname = 'pg_catalog' AND p.proname = ANY ($9::text[]) THEN NOT EXISTS (SELECT FROM foreign_types y WHERE y.n = c.n AND y.says = c.says)
               WHEN s.nspname = 'pg_catalog' THEN p.provolatile = 'i' OR p.proname = ANY ($8::text[])
               WHEN s.nspname = 'headgate' THEN c.fires OR p.proname = ANY ($11::text[])
               ELSE p.provolatile = 'i' OR p.proname = ANY ($10::text[]) OR NOT EXISTS (
                    SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') END
       AND NOT EXISTS (SELECT FROM headgate.protected d WHERE d.mode = 'function' AND d.object = f.name)
    UNION
    SELECT y.n, pg_catalog.format('%s (type %s)', y.says, y.oid::regtype) FROM foreign_types y
     WHERE y.typtype IN ('r', 'm') OR NOT y.read AND y.typtype IN ('d', 'c')
    UNION
    SELECT m.n, pg_catalog.format('%s (an expression of kind %s)', m.says, x.found[1]) FROM made m CROSS JOIN LATERAL pg_catalog.regexp_matches(m.tree, '[{]([A-Za-z_]+)', 'g') AS x (found)
     WHERE x.found[1] <> ALL ($7::text[])
    UNION
    SELECT m.n, pg_catalog.format('rule %I of %s', w.rulename, w.ev_class::regclass)
      FROM met m JOIN pg_catalog.pg_rewrite w ON w.ev_class = m.oid AND w.ev_enabled <> 'D'
       AND CASE w.ev_type WHEN '2' THEN 16 WHEN '3' THEN 4 WHEN '4' THEN 8 ELSE 0 END & m.event > 0
), types (n, name, oid, written, said) AS (
    SELECT t.n, a.attname, a.atttypid, t.event & 20 > 0, t.n = ANY ($6::int[]) OR EXISTS (
               SELECT FROM unnest($4::int[], $5::text[]) AS c (n, name) WHERE c.n = t.n AND c.name IN (pg_catalog.quote_ident(a.attname), pg_catalog.format('"%s"', pg_catalog.replace(a.attname, '"', '""'))))
      FROM named t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT s.n, s.name, p.oid, s.written, s.said FROM types s JOIN pg_catalog.pg_type y ON y.oid = s.oid ` + parts + `
)
SELECT coalesce(t.oid, 0), coalesce(c.relkind::text, ''), coalesce(pg_catalog.pg_get_userbyid(c.relowner) = session_user, false), coalesce(pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)), ''),
       ARRAY(SELECT c.says FROM code c WHERE c.n = t.n ORDER BY 1),
       ARRAY(SELECT DISTINCT pg_catalog.format('column %I of type %s', s.name, y.oid::regtype)
               FROM types s JOIN pg_catalog.pg_type y ON y.oid = s.oid AND y.typowner IN (SELECT oid FROM others)
              WHERE s.n = t.n AND CASE WHEN y.typtype = 'd' THEN s.written WHEN y.typtype IN ('r', 'm') THEN s.written OR s.said ELSE s.said END ORDER BY 1),
       ARRAY(SELECT DISTINCT d.oid::regclass::text FROM down d JOIN pg_catalog.pg_class h ON h.oid = d.oid AND h.relkind NOT IN ('r', 'p') WHERE d.n = t.n AND d.oid <> t.oid ORDER BY 1)
  FROM named t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid
 ORDER BY t.n`

// mentions finds the types that a tree names, and as what.
const mentions = `':([a-z_]*(?:type|typeid|typeId)) ([0-9]+)'`

// parts are the types p that a type y is made of. partsAndChecked are also the types that values
// have while a constraint of the domain y is checked.
const (
	parts           = partsOf + `) AS p (oid)`
	partsAndChecked = partsOf + `
              UNION ALL
              SELECT (pg_catalog.regexp_matches(c.conbin::text, ` + mentions + `, 'g'))[2]::oid FROM pg_catalog.pg_constraint c WHERE c.contypid = y.oid) AS p (oid)`
)

const partsOf = `CROSS JOIN LATERAL (
              SELECT y.typbasetype WHERE y.typbasetype <> 0
              UNION ALL
              SELECT y.typelem WHERE y.typelem <> 0
              UNION ALL
              SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              UNION ALL
              SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE y.oid IN (g.rngtypid, g.rngmultitypid)`

// seen is what there is to know of a locked relation.
type seen struct {
	OID    uint32
	Kind   string
	Own    bool     // it belongs to the session's login itself
	Owner  string   // quoted
	Code   []string // what would run
	Types  []string // columns whose types others can give casts
	Remote []string // heirs that are no tables of this server
}

func (s seen) isTable() bool { return s.Kind == "r" || s.Kind == "p" }

func look(ctx context.Context, tx pgx.Tx, tables []Table) ([]seen, error) {
	names, uses, alone := make([]string, len(tables)), make([]int32, len(tables)), make([]bool, len(tables))
	var of, all []int32
	var columns []string
	for i, t := range tables {
		place := int32(i + 1)
		names[i], uses[i], alone[i] = t.Name, int32(t.Use), t.Only
		if t.Columns == nil {
			all = append(all, place)
		}
		for _, c := range t.Columns {
			of, columns = append(of, place), append(columns, c)
		}
	}
	rows, _ := tx.Query(ctx, selectLook, names, uses, alone, of, columns, all, kinds, steady, casting, extended, current) // its error is CollectRows' too
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seen])
	if err != nil {
		return nil, fmt.Errorf("looking at tables behind their locks: %w", err)
	}
	for i, t := range tables {
		if err := t.judge(found[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (t Table) judge(s seen) error {
	switch {
	case s.OID == 0:
		return t.missing()
	case !s.isTable() && !t.View:
		return t.refused("is not a table, and the functions of a view would run with the owner login's rights: name the table behind it")
	case t.OID != 0 && s.OID != t.OID:
		return t.refused("is another table since the look at the database")
	case !s.isTable() && !s.Own:
		return t.refused("is no table and belongs to role %s, and its functions would run with the rights of the owner's login: have an administrator run ALTER TABLE %s OWNER TO that login once the SQL has been read, or make a view of the login's own", s.Owner, t.Name)
	case s.isTable() && len(s.Remote) > 0:
		return t.refused("has a part that is no table of this server: %s", list(s.Remote))
	case s.isTable() && len(s.Code) > 0:
		return t.refused("has code that would run with the owner login's rights, %s: have an administrator make that login the owner of the function or type once it has been read, trust a function with `headgate database protect DATABASE --trusted-function NAME --reason TEXT`, or drop the expression", list(s.Code))
	case len(s.Types) > 0:
		return t.refused("has %s, and who owns a type can make a cast whose function would run with the owner login's rights: make that login the type's owner, or give the column a type of Postgres's own", list(s.Types))
	}
	return nil
}

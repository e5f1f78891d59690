package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// facts is what a plan must know beside the state.
type facts struct {
	*state

	version  int    // server_version_num
	user     string // who asks, quoted
	dbname   string // quoted
	database bool   // the owner may create schemas
	tables   map[string]tableFact
}

// tableFact is a relation that a request names.
type tableFact struct {
	OID       uint32
	Mine      bool     // the session has its owner's rights
	Types     []string // of its columns, in their order
	Sequences []string // that its columns draw from, and jobs may not yet
	Drawn     []string // the same that jobs may use
	Reads     []string // the relations that it reads, if it is a view
	GroupHas  []string // what is granted to headgate_job itself, on the whole
	Space     bool     // jobs may use its schema
	Refers    bool     // its owner may name the functions of schema headgate in a policy
	SpaceAs   string   // who must grant the use of its schema: "" for the session itself
	Held      []string // what the session may do with it and pass on by a view; its schema's use counts as USAGE
}

// selectObjects resolves names as the login's search_path has them, and so names everything
// else in full.
const selectObjects = `
SELECT coalesce(pg_catalog.to_regclass(n)::pg_catalog.oid, 0) FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS x(n, i) ORDER BY i`

// selectFunctionName does it for a function, and writes its name in full.
const selectFunctionName = `
SELECT pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, (
           SELECT coalesce(pg_catalog.string_agg(pg_catalog.format('%I.%I', tn.nspname, t.typname), ', ' ORDER BY a.n), '')
             FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) WITH ORDINALITY AS a(type, n)
             JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.type JOIN pg_catalog.pg_namespace tn ON tn.oid OPERATOR(pg_catalog.=) t.typnamespace))
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
 WHERE p.oid OPERATOR(pg_catalog.=) CASE WHEN $1::pg_catalog.text OPERATOR(pg_catalog.~~) '%(%' THEN pg_catalog.to_regprocedure($1)::pg_catalog.oid ELSE pg_catalog.to_regproc($1)::pg_catalog.oid END`

const selectTableFacts = `
SELECT c.oid, pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'),
       ARRAY(SELECT pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT pg_catalog.format('%I.%I', sn.nspname, s.relname) FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_class s ON s.oid = d.objid JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'a'
                AND CASE s.relkind WHEN 'S' THEN NOT pg_catalog.has_sequence_privilege('headgate_job', s.oid, 'USAGE') ELSE false END ORDER BY 1),
       ARRAY(SELECT pg_catalog.format('%I.%I', sn.nspname, s.relname) FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_class s ON s.oid = d.objid JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'a'
                AND CASE s.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege('headgate_job', s.oid, 'USAGE, SELECT') ELSE false END ORDER BY 1),
       ARRAY(SELECT DISTINCT pg_catalog.format('%I.%I', bn.nspname, b.relname) FROM pg_catalog.pg_rewrite w
               JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> c.oid
               JOIN pg_catalog.pg_class b ON b.oid = d.refobjid JOIN pg_catalog.pg_namespace bn ON bn.oid = b.relnamespace
              WHERE w.ev_class = c.oid AND c.relkind = 'v' AND bn.nspname <> 'pg_catalog' ORDER BY 1),
       ARRAY(SELECT x.privilege_type FROM pg_catalog.aclexplode(c.relacl) AS x WHERE x.grantee = 'headgate_job'::regrole ORDER BY 1),
       pg_catalog.has_schema_privilege('headgate_job', c.relnamespace, 'USAGE'), pg_catalog.has_schema_privilege(c.relowner, 'headgate'::regnamespace, 'USAGE'),
       (SELECT CASE WHEN pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE') THEN '' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(n.nspowner)) END
          FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace),
       ARRAY(SELECT w FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS w WHERE pg_catalog.has_table_privilege(current_user, c.oid, w)
             UNION ALL SELECT 'USAGE' WHERE pg_catalog.has_schema_privilege(current_user, c.relnamespace, 'USAGE'))
  FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)`

const selectSession = `
SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.quote_ident(current_user), pg_catalog.quote_ident(pg_catalog.current_database()),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')`

// gather resolves the names of a request and reads what is known of them. resolved has the
// names of tables and views as the catalogs have them, those of functions behind them, and
// then what is withdrawn.
func gather(ctx context.Context, tx pgx.Tx, req Request) (f *facts, resolved []string, err error) {
	names := make([]string, 0, len(req.Tables)+len(req.Views))
	for _, t := range req.Tables {
		names = append(names, t.Name)
	}
	names = append(names, req.Views...)
	oids, err := resolve(ctx, tx, names)
	if err != nil {
		return nil, nil, err
	}
	functions, err := resolveFunctions(ctx, tx, req.Functions)
	if err != nil {
		return nil, nil, err
	}
	taken, further, err := withdrawn(ctx, tx, req.Withdraw)
	if err != nil {
		return nil, nil, err
	}
	servers, err := enter(ctx, tx) // from here on names are Postgres's own
	if err != nil {
		return nil, nil, err
	}
	asked, err := withParents(ctx, tx, oids)
	if err != nil {
		return nil, nil, err
	}
	asked = append(asked, further...)
	f = &facts{tables: map[string]tableFact{}}
	if err := tx.QueryRow(ctx, selectSession).Scan(&f.version, &f.user, &f.dbname, &f.database); err != nil {
		return nil, nil, fmt.Errorf("asking what the owner's session is: %w", err)
	}
	if f.state, err = look(ctx, tx, Options{Database: req.Database, Login: req.Login}, servers, asked); err != nil {
		return nil, nil, err
	}
	if f.login.group == 0 {
		return nil, nil, refuse("the server has no role %s: run `headgate server prepare` once with an administrator's address", jobGroup)
	}
	byOID := map[uint32]string{}
	all := []uint32{} // those too from which rights are taken
	for _, r := range f.relations {
		byOID[r.OID] = r.Name
		all = append(all, r.OID)
	}
	rows, err := collect[tableFact](ctx, tx, "the tables that are named", selectTableFacts, all)
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		f.tables[byOID[row.OID]] = row
	}
	for _, oid := range oids {
		resolved = append(resolved, byOID[oid])
	}
	return f, slices.Concat(resolved, functions, taken), nil
}

// resolve returns the numbers of relations, and refuses names that lead nowhere.
func resolve(ctx context.Context, tx pgx.Tx, names []string) (oids []uint32, err error) {
	rows, _ := tx.Query(ctx, selectObjects, names) // its error is CollectRows' too
	oids, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
	if said := (*pgconn.PgError)(nil); errors.As(err, &said) && unreadable(said) {
		return nil, refuse("a name cannot be read (%s): write it as SQL would, as in app.orders or \"Order Items\"", said.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the tables that are named: %w", err)
	}
	for i, oid := range oids {
		if oid == 0 {
			return nil, refuse("there is no table or view %s in the database, or it is not on the owner's search_path: name its schema too", names[i])
		}
		if slices.Contains(oids[:i], oid) {
			return nil, refuse("%s is named twice", names[i])
		}
	}
	return oids, nil
}

// unreadable says whether Postgres could not read a name.
func unreadable(said *pgconn.PgError) bool {
	return slices.Contains([]string{"42", "22", "0A"}, said.Code[:2])
}

// selectParents follows foreign keys upwards.
const selectParents = `
WITH RECURSIVE up(oid) AS (
    SELECT unnest($1::oid[])
    UNION
    SELECT f.confrelid FROM up JOIN pg_catalog.pg_constraint f ON f.conrelid = up.oid AND f.contype = 'f'
)
SELECT oid FROM up`

// withParents adds the tables that foreign keys of others lead to.
func withParents(ctx context.Context, tx pgx.Tx, oids []uint32) ([]uint32, error) {
	rows, _ := tx.Query(ctx, selectParents, oids) // its error is CollectRows' too
	all, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("looking for parents: %w", err)
	}
	return all, nil
}

// resolveFunctions returns the names under which functions are declared.
func resolveFunctions(ctx context.Context, tx pgx.Tx, names []string) (all []string, err error) {
	for _, given := range names {
		var found string
		err := tx.QueryRow(ctx, selectFunctionName, given).Scan(&found)
		said := (*pgconn.PgError)(nil)
		switch {
		case errors.Is(err, pgx.ErrNoRows), errors.As(err, &said) && unreadable(said):
			return nil, refuse("there is no function %s, or there are several of the name: write it with its argument types, as in app.total(bigint)", given)
		case err != nil:
			return nil, fmt.Errorf("looking for function %s: %w", given, err)
		}
		if strings.HasPrefix(found, "headgate.") {
			return nil, refuse("%s is Headgate's own function, and no declaration is needed", found)
		}
		all = append(all, found)
	}
	return all, nil
}

// typeOf returns the type of a relation's column, "" if there is none.
func (f *facts) typeOf(r *relation, column string) string {
	at := slices.Index(r.Columns, column)
	if at < 0 || at >= len(f.tables[r.Name].Types) {
		return ""
	}
	return f.tables[r.Name].Types[at]
}

// as is who must run a statement that only the owner of a relation may run: "" for the
// session itself.
func (f *facts) as(r *relation) string {
	if f.tables[r.Name].Mine || r.Owner == f.user {
		return ""
	}
	return r.Owner
}

// foreignKey returns the parent of a foreign key, and the pairs of columns: of the parent,
// and here.
func (f *facts) foreignKey(ctx context.Context, tx pgx.Tx, r *relation, columns string) (parent *relation, there, here []string, err error) {
	var keys []string
	for _, fk := range r.Parents {
		cols, _, _ := strings.Cut(fk, ">")
		keys = append(keys, cols)
	}
	wanted := strings.ReplaceAll(columns, " ", "")
	if !slices.Contains(keys, wanted) {
		if len(keys) == 0 {
			return nil, nil, nil, refuse("table %s has no foreign key, so nothing leads to a parent: name its organisation column, or declare it public", r.Name)
		}
		return nil, nil, nil, refuse("column %s of table %s is no foreign key: its foreign keys are %s", columns, r.Name, strings.Join(keys, "; "))
	}
	var oid uint32
	if err := tx.QueryRow(ctx, selectForeignKey, r.OID, wanted).Scan(&oid, &there, &here); err != nil {
		return nil, nil, nil, fmt.Errorf("looking at foreign key %s of %s: %w", columns, r.Name, err)
	}
	for _, one := range f.relations {
		if one.OID == oid {
			return one, there, here, nil
		}
	}
	return nil, nil, nil, refuse("table %s: the parent that %s leads to cannot be looked at", r.Name, columns)
}

const selectForeignKey = `
SELECT f.confrelid,
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM unnest(f.confkey) WITH ORDINALITY AS k(col, n) JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.col ORDER BY k.n),
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM unnest(f.conkey) WITH ORDINALITY AS k(col, n) JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.col ORDER BY k.n)
  FROM pg_catalog.pg_constraint f
 WHERE f.conrelid = $1 AND f.contype = 'f' AND $2 = (
       SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k(col, n)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.col)
 ORDER BY f.conname LIMIT 1`

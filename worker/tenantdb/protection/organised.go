package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
)

// Organised is a table whose rows belong to organisations, as the owner has declared it.
type Organised struct {
	OID  uint32
	Name string // schema.name, with quotes where SQL needs them

	// Column holds the organisation, quoted where SQL needs it, and Type is its type without
	// a domain, as format_type writes it. Both are "" where a parent holds it.
	Column, Type string

	// Parent holds the organisation: a row belongs to the one that its foreign key leads to.
	// Here are the columns of that key, and There those of the parent, quoted.
	Parent      uint32
	Here, There []string
}

// Undeclared is a table that is no Organised one, and may hold rows of organisations.
type Undeclared struct {
	Name string // schema.name, quoted
	Why  string // a column that looks as if it held an organisation, or a sentence

	// Broken says that the table is declared, and that its declaration leads to no
	// organisation any more. Gone says that no table has the name any more.
	Broken, Gone bool
}

// Command is what declares the table in a database of the catalog, or takes the declaration of
// one that is gone back.
func (u Undeclared) Command(database string) string {
	if u.Gone {
		return fmt.Sprintf("`headgate database protect %s --withdraw %s`", database, jobs.ShellWord(u.Name))
	}
	return fmt.Sprintf("`headgate database protect %s --table %s`", database, jobs.ShellWord(u.Name))
}

// selectTables reads the application's tables: no partition, because its rows are found
// through the table that it is a part of, and nothing of an extension.
const selectTables = `
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text,
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT pg_catalog.format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT k.collisdeterministic),
       EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid), EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'headgate_org'),
       ARRAY(SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't' AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'headgate', 'headgate_app')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY 2`

type tableRow struct {
	OID                   uint32
	Name, Kind            string
	Columns, Types, Loose []string
	Policies, Ours        bool     // Ours: a policy of Headgate's
	Parents               []uint32 // tables that it inherits from
}

// Organisations lists the tables that are declared to hold rows of organisations, by name,
// and others that may hold some: a column's name looks so, or they have policies. What those
// policies say is not read: a row that two organisations see is not the second one's. It
// reads the catalogs only.
func Organisations(ctx context.Context, conn Beginner) (tables []Organised, others []Undeclared, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: session.BeginReadOnly})
	if err != nil {
		return nil, nil, fmt.Errorf("looking for the tables of organisations: %w", err)
	}
	defer func() { err = errors.Join(err, rollback(ctx, tx)) }()
	if _, err := tx.Exec(ctx, localPath); err != nil {
		return nil, nil, fmt.Errorf("looking for the tables of organisations: %w", err)
	}
	declared, err := readDeclarations(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	rows, err := collect[tableRow](ctx, tx, "the application's tables", selectTables)
	if err != nil {
		return nil, nil, err
	}
	o := organiser{declared: declared, byOID: map[uint32]Organised{}}
	for _, r := range rows {
		if err := o.sort(ctx, tx, r); err != nil {
			return nil, nil, err
		}
	}
	o.dropOrphans()
	if err := o.missing(ctx, tx); err != nil {
		return nil, nil, err
	}
	return o.tables, o.looksOf(rows), nil
}

// organiser sorts tables into those that belong to organisations and others.
type organiser struct {
	declared declarations
	tables   []Organised
	byOID    map[uint32]Organised
	others   []Undeclared
}

// sort looks at one table.
func (o *organiser) sort(ctx context.Context, tx pgx.Tx, r tableRow) error {
	d := o.declared[r.Name]
	table := Organised{OID: r.OID, Name: r.Name}
	at := slices.Index(r.Columns, d.Column)
	switch {
	case d.Column == "" && d.Through == "" || d.Mode == modePublic || d.Mode == modeCopy:
		return nil
	case r.Kind != "r" && r.Kind != "p":
		o.broken(r.Name, "it is declared, and no table of this server")
		return nil
	case d.Through != "":
		found, err := o.parent(ctx, tx, &table, d.Through)
		if err != nil {
			return err
		}
		if !found {
			o.broken(r.Name, fmt.Sprintf("it is declared through %s, which is no foreign key any more", d.Through))
			return nil
		}
	case at < 0:
		o.broken(r.Name, fmt.Sprintf("it is declared by column %s, which is gone", d.Column))
		return nil
	case slices.Contains(r.Loose, d.Column):
		o.broken(r.Name, fmt.Sprintf("column %s has a collation under which different values may be equal", d.Column))
		return nil
	case keys[r.Types[at]] == "":
		o.broken(r.Name, fmt.Sprintf("column %s is of type %s, which is not compared with an organisation", d.Column, r.Types[at]))
		return nil
	default:
		table.Column, table.Type = d.Column, r.Types[at]
	}
	o.tables, o.byOID[r.OID] = append(o.tables, table), table
	return nil
}

func (o *organiser) broken(name, why string) {
	o.others = append(o.others, Undeclared{Name: name, Why: why, Broken: true})
}

// selectDeclaredKinds has what the names lead to that are declared to hold rows of organisations.
const selectDeclaredKinds = `
SELECT d.object, d.mode, coalesce(c.relkind::text, ''), coalesce(pg_catalog.pg_partition_root(c.oid)::oid, 0)
  FROM headgate.protected d
  LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON pg_catalog.format('%I.%I', n.nspname, c.relname) = d.object
 WHERE d.mode IN ('policy', 'through', 'view')
 ORDER BY 1`

// declaredKind is a declared object. Kind is "" of one that is gone.
type declaredKind struct {
	Object, Mode, Kind string
	Root               uint32 // of a partition
}

// absent says why a declared table is not found under its name, "" if it is.
func (d declaredKind) absent() string {
	switch d.Kind {
	case "":
		return "it is declared, and there is no table of that name: somebody has renamed, moved or dropped it"
	case "v":
		if d.Mode != modeView {
			return "it is declared as a table, and a view has its name: somebody has renamed the table"
		}
	}
	return ""
}

// missing adds what is declared and is not among the application's tables. Rows that lie in a
// table of another name would be taken for none.
func (o *organiser) missing(ctx context.Context, tx pgx.Tx) error {
	declared, err := collect[declaredKind](ctx, tx, "what is declared", selectDeclaredKinds)
	if err != nil {
		return err
	}
	for _, d := range declared {
		why := d.absent()
		known := slices.ContainsFunc(o.tables, func(t Organised) bool { return t.Name == d.Object }) || slices.ContainsFunc(o.others, func(u Undeclared) bool { return u.Name == d.Object })
		switch {
		case known, why == "" && d.Kind == "v": // its rows lie in tables
		case why != "":
			o.others = append(o.others, Undeclared{Name: d.Object, Why: why, Broken: true, Gone: true})
		case o.byOID[d.Root].OID == 0:
			o.broken(d.Object, "it is declared, and is a part of a table that is not, or belongs to an extension")
		}
	}
	return nil
}

// parent finds the foreign key of these columns. Nothing else says that a row belongs to one
// row of the parent only.
func (o *organiser) parent(ctx context.Context, tx pgx.Tx, t *Organised, columns string) (bool, error) {
	err := tx.QueryRow(ctx, selectForeignKey, t.OID, columns).Scan(&t.Parent, &t.There, &t.Here)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at foreign key %s of %s: %w", columns, t.Name, err)
	}
	return t.Parent != t.OID, nil
}

// dropOrphans takes out tables whose parents lead to no column of an organisation.
func (o *organiser) dropOrphans() {
	kept := o.tables[:0:0]
	for _, t := range o.tables {
		at, steps := t, 0
		for at.Column == "" && steps <= maxParents {
			at, steps = o.byOID[at.Parent], steps+1 // of a parent that is unknown the zero value: it ends by the steps
		}
		if at.Column != "" {
			kept = append(kept, t)
			continue
		}
		o.broken(t.Name, fmt.Sprintf("its foreign key %s leads to no table that is declared with a column of the organisation", strings.Join(t.Here, ",")))
		delete(o.byOID, t.OID)
	}
	o.tables = kept
}

// heirOf says whether a table's rows are found through one that belongs to organisations.
func (o *organiser) heirOf(r tableRow) bool {
	return slices.ContainsFunc(r.Parents, func(oid uint32) bool { return o.byOID[oid].OID != 0 })
}

// looks are names of columns that hold an organisation in many applications.
var looks = []string{"org_id", "org_key", "org_brand_id", "organisation_id", "organization_id", "tenant_id"}

// looksOf adds the tables with such a column, with one that holds the organisation in another
// table, or with policies.
func (o *organiser) looksOf(rows []tableRow) []Undeclared {
	names := slices.Clone(looks)
	for _, t := range o.tables {
		if t.Column != "" && t.Column != "id" {
			names = append(names, t.Column)
		}
	}
	for _, r := range rows {
		known := slices.ContainsFunc(o.others, func(u Undeclared) bool { return u.Name == r.Name })
		if o.byOID[r.OID].OID != 0 || known || o.heirOf(r) || o.declared.is(r.Name, modePublic) {
			continue
		}
		if r.Ours && o.declared[r.Name].Mode == "" {
			o.broken(r.Name, "it has Headgate's policies, and is not declared under this name: somebody has renamed it")
		} else if at := slices.IndexFunc(r.Columns, func(c string) bool { return slices.Contains(names, c) }); at >= 0 {
			o.others = append(o.others, Undeclared{Name: r.Name, Why: r.Columns[at]})
		} else if r.Policies {
			o.others = append(o.others, Undeclared{Name: r.Name, Why: "it has policies"})
		}
	}
	slices.SortFunc(o.others, func(a, b Undeclared) int { return strings.Compare(a.Name, b.Name) })
	return o.others
}

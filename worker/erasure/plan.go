package erasure

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// table is one that rows are deleted from.
type table struct {
	protection.Organised

	parts      []part
	references []reference
	apart      bool // the database has refused a row, so that rows go one by one
}

// part is a table whose own rows are deleted: the table itself, one of its partitions, or one
// that inherits from it.
type part struct {
	OID         uint32
	Name        string
	Root        uint32
	Kind        string
	May, Hidden bool
	Owner       string

	Code  string // the application's code that a deletion would run with the owner's rights; "" is none
	Stamp string // of that code and of the foreign keys that lead here
}

// reference is a foreign key that leads to a table of the plan.
type reference struct {
	To      uint32 // the table of the plan
	From    uint32
	Table   string // schema.name
	Name    string // the constraint's
	Visible bool   // the login sees all rows of the referring table
	On      string // joins the referring table, c, to the table, t
	Quick   bool   // an index finds the rows that refer to one row, or ANALYZE has found less than a megabyte

	There, Here []string // the key's columns in the referring table, and in the table, quoted
}

// plan is what one look at a database's catalogs has found.
type plan struct {
	tables []*table // children before parents
	byOID  map[uint32]*table
	partOf map[uint32]partAt
	others []protection.Undeclared
}

// partAt is a part's place among those of its table.
type partAt struct {
	t *table
	n int
}

// selectParts has all that rows of the tables $1 may lie in, and whether this login may delete
// there and sees all rows.
const selectParts = `
WITH RECURSIVE down (root, oid) AS (
    SELECT x, x FROM pg_catalog.unnest($1::oid[]) AS x
    UNION
    SELECT d.root, i.inhrelid FROM down d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid
)
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), d.root, c.relkind::text,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'DELETE') AND pg_catalog.has_any_column_privilege(c.oid, 'UPDATE'),
       pg_catalog.row_security_active(c.oid), pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)), o.code, o.stamp
  FROM down d JOIN pg_catalog.pg_class c ON c.oid = d.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL headgate.on_delete(c.oid) o
 WHERE c.relkind <> 'p'
 ORDER BY 3, 2`

// selectReferences has the foreign keys to the tables $1 and their parts, each once, with the
// operators by which Postgres compares their columns. It reads the catalogs only: a size would
// wait for a table that another session has locked.
const selectReferences = `
WITH RECURSIVE down (root, oid) AS (
    SELECT x, x FROM pg_catalog.unnest($1::oid[]) AS x
    UNION
    SELECT d.root, i.inhrelid FROM down d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid
)
SELECT d.root, f.conrelid, pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(f.conname),
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND NOT pg_catalog.row_security_active(c.oid),
       (SELECT pg_catalog.string_agg(pg_catalog.format('t.%I OPERATOR(%I.%s) c.%I', y.attname, pn.nspname, p.oprname, x.attname), ' AND ')
          FROM unnest(f.conkey, f.confkey, f.conpfeqop) AS k (here, there, op)
          JOIN pg_catalog.pg_attribute x ON x.attrelid = f.conrelid AND x.attnum = k.here
          JOIN pg_catalog.pg_attribute y ON y.attrelid = f.confrelid AND y.attnum = k.there
          JOIN pg_catalog.pg_operator p ON p.oid = k.op JOIN pg_catalog.pg_namespace pn ON pn.oid = p.oprnamespace),
       c.relkind <> 'p' AND c.reltuples >= 0 AND c.relpages < 128 OR
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = f.conrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = ANY (f.conkey)),
       ARRAY(SELECT pg_catalog.quote_ident(x.attname) FROM pg_catalog.pg_attribute x WHERE x.attrelid = f.conrelid AND x.attnum = ANY (f.conkey)),
       ARRAY(SELECT pg_catalog.quote_ident(y.attname) FROM pg_catalog.pg_attribute y WHERE y.attrelid = f.confrelid AND y.attnum = ANY (f.confkey))
  FROM down d
  JOIN pg_catalog.pg_constraint f ON f.confrelid = d.oid AND f.contype = 'f'
  JOIN pg_catalog.pg_class c ON c.oid = f.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE f.conparentid = 0
 ORDER BY 1, 3, 4`

// look makes the plan anew. The stamps are read before the foreign keys: a key that comes
// between the two makes a stamp of the past.
func (e *eraser) look(ctx context.Context) error {
	organised, others, err := protection.Organisations(ctx, e.conn)
	if err != nil {
		return err
	}
	p := &plan{byOID: map[uint32]*table{}, partOf: map[uint32]partAt{}, others: others}
	fits := map[string]bool{}
	for _, o := range organised {
		if _, known := fits[o.Type]; !known && o.Column != "" {
			if fits[o.Type], err = e.fits(ctx, o.Type); err != nil {
				return err
			}
		}
		if o.Column == "" || fits[o.Type] {
			t := &table{Organised: o}
			p.tables, p.byOID[o.OID] = append(p.tables, t), t
		}
	}
	p.tables = slices.DeleteFunc(p.tables, func(t *table) bool { return !p.reaches(t) })
	if err := e.inTx(ctx, func(tx pgx.Tx) error { return p.read(ctx, tx) }); err != nil {
		return err
	}
	p.order()
	e.plan = p
	return nil
}

// fits says whether columns of a type can hold the tenant: none by uuid has a row of a tenant
// whose key is no UUID, and none by integer one of a greater number.
func (e *eraser) fits(ctx context.Context, kind string) (bool, error) {
	key, _ := protection.Key(kind, org, orgKey)
	err := e.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT "+key)
		return err
	})
	var said *pgconn.PgError
	if errors.As(err, &said) && (said.Code == "22P02" || said.Code == "22003") {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("comparing the tenant with columns of type %s: %w", kind, err)
	}
	return true, nil
}

func (p *plan) read(ctx context.Context, tx pgx.Tx) error {
	oids := make([]uint32, len(p.tables))
	for i, t := range p.tables {
		oids[i] = t.OID
	}
	rows, _ := tx.Query(ctx, selectParts, oids) // its error is CollectRows' too
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[part])
	if err != nil {
		return fmt.Errorf("looking for partitions: %w", err)
	}
	for _, one := range parts {
		t := p.byOID[one.Root]
		p.partOf[one.OID] = partAt{t, len(t.parts)}
		t.parts = append(t.parts, one)
	}
	rows, _ = tx.Query(ctx, selectReferences, oids) // its error is CollectRows' too
	references, err := pgx.CollectRows(rows, pgx.RowToStructByPos[reference])
	if err != nil {
		return fmt.Errorf("looking for foreign keys: %w", err)
	}
	for _, one := range references {
		p.byOID[one.To].references = append(p.byOID[one.To].references, one)
	}
	return nil
}

// part is what is known of the table that rows lie in, nil of one that is not in the plan.
func (p *plan) part(oid uint32) (*table, part) {
	at := p.partOf[oid]
	if at.t == nil {
		return nil, part{}
	}
	return at.t, at.t.parts[at.n]
}

// reaches says whether a table's way to the organisation is whole: a parent by uuid may have
// been left out.
func (p *plan) reaches(t *table) bool {
	for t != nil && t.Column == "" {
		t = p.byOID[t.Parent]
	}
	return t != nil
}

// order puts tables behind those that refer to them. In a circle any order does: what is
// referred to goes in a later pass.
func (p *plan) order() {
	var sorted []*table
	seen := map[uint32]bool{}
	var visit func(t *table)
	visit = func(t *table) {
		if seen[t.OID] {
			return
		}
		seen[t.OID] = true
		for _, r := range t.references {
			if child := p.byOID[r.From]; child != nil {
				visit(child)
			}
		}
		for _, child := range p.tables {
			if child.Parent == t.OID && child.Column == "" {
				visit(child)
			}
		}
		sorted = append(sorted, t)
	}
	for _, t := range p.tables {
		visit(t)
	}
	p.tables = sorted
}

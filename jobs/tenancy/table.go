package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/relation"
)

// findTable is whether this login may read and write the locked table whole.
const findTable = `
SELECT pg_catalog.row_security_active(c.oid),
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND ($2 OR pg_catalog.has_table_privilege(c.oid, 'INSERT') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE'))
           AND (NOT $3 OR pg_catalog.has_table_privilege(c.oid, 'DELETE')), current_user::text
  FROM pg_catalog.pg_class c WHERE c.oid = $1`

// findColumns has the table's columns, with the base type of a domain. A column is alone
// unique if an index says so that ON CONFLICT can go by. It is filled where a row gets a
// value without one being given, or where a trigger BEFORE INSERT may give one. A column in
// an expression of a unique index, as in lower(slug), is one of that index too. The name of a
// type counts for a type of Postgres's own only.
const findColumns = `
WITH unique_columns (attnum, at_once) AS (
    SELECT d.refobjsubid, pg_catalog.bool_or(i.indimmediate)
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid
           AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = i.indrelid
     WHERE i.indrelid = $1::oid AND (i.indisunique OR i.indisexclusion)
     GROUP BY 1
    UNION ALL
    SELECT k, pg_catalog.bool_or(i.indimmediate)
      FROM pg_catalog.pg_index i CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) AS k
     WHERE i.indrelid = $1::oid AND (i.indisunique OR i.indisexclusion)
     GROUP BY 1
)
SELECT a.attname::text, CASE b.typnamespace WHEN 'pg_catalog'::regnamespace THEN b.typname::text ELSE '' END, b.typcategory::text, format_type(a.atttypid, a.atttypmod),
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indimmediate
                  AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indexprs IS NULL),
       NOT (a.attnotnull OR t.typnotnull) OR a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' OR t.typdefault IS NOT NULL
           OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgtype & 7 = 7),
       CASE WHEN b.oid IN ('pg_catalog.varchar'::regtype, 'pg_catalog.bpchar'::regtype) THEN greatest(coalesce(nullif(a.atttypmod, -1), t.typtypmod) - 4, 0) ELSE 0 END,
       EXISTS (SELECT FROM unique_columns u WHERE u.attnum = a.attnum),
       EXISTS (SELECT FROM unique_columns u WHERE u.attnum = a.attnum AND u.at_once)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_type b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0), t.oid)
 WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum`

// found is a column as the table has it.
type found struct {
	Name, Base, Category, Type string
	Unique, Filled             bool
	Length                     int
	Alone, AtOnce              bool
}

// look locks the table, says what is wrong with the table or a column before anything is
// written, and completes the plan's columns by their types.
func (p *plan) look(ctx context.Context, tx pgx.Tx) error {
	if err := p.hold(ctx, tx, relation.Read); err != nil {
		return err
	}
	if err := p.lookAtTable(ctx, tx); err != nil {
		return err
	}
	table := p.table.Sanitize()
	rows, err := tx.Query(ctx, findColumns, p.oid)
	if err != nil {
		return fmt.Errorf("organisations: looking at the columns of %s: %w", table, err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		return fmt.Errorf("organisations: looking at the columns of %s: %w", table, err)
	}
	for i := range p.columns {
		if err := p.columns[i].find(table, columns); err != nil {
			return err
		}
	}
	p.unfilled = p.firstUnfilled(columns)
	return nil
}

// held is the table as a lock takes it. What the name leads to at first it leads to until the
// job's end.
func (p *plan) held(use relation.Use) relation.Table {
	columns := make([]string, len(p.columns))
	for i, c := range p.columns {
		columns[i] = c.quoted()
	}
	return relation.Table{Name: p.table.Sanitize(), OID: p.oid, Use: use, Columns: columns}
}

// hold locks the table, and refuses one that would run others' code.
func (p *plan) hold(ctx context.Context, tx pgx.Tx, use relation.Use) error {
	oids, err := relation.Lock(ctx, tx, p.held(use))
	if err != nil {
		return fmt.Errorf("organisations: %w", err)
	}
	p.oid = oids[0]
	return nil
}

func (p *plan) lookAtTable(ctx context.Context, tx pgx.Tx) error {
	var hidden, allowed bool
	var login string
	table := p.table.Sanitize()
	err := tx.QueryRow(ctx, findTable, p.oid, p.reportOnly, p.remove).Scan(&hidden, &allowed, &login)
	switch {
	case err != nil:
		return fmt.Errorf("organisations: looking up %s: %w", table, err)
	case !allowed:
		return fmt.Errorf("organisations: login %s may not read and write table %s: have its owner run GRANT SELECT, INSERT, UPDATE, DELETE ON %[2]s TO %[1]s", pgx.Identifier{login}.Sanitize(), table)
	case hidden:
		return fmt.Errorf("organisations: row-level security hides rows of table %s from login %s: leave FORCE ROW LEVEL SECURITY off, or make the login its owner", table, pgx.Identifier{login}.Sanitize())
	}
	return nil
}

// find completes a column by its type in the table.
func (c *column) find(table string, columns []found) error {
	var in found
	names := make([]string, len(columns))
	for i, f := range columns {
		names[i] = f.Name
		if f.Name == c.name {
			in = f
		}
	}
	text := in.Category == "S" && in.Base != "name"
	c.padded, c.length, c.alone, c.atOnce = in.Base == "bpchar", in.Length, in.Alone, in.AtOnce
	switch quoted := (pgx.Identifier{c.name}).Sanitize(); {
	case in.Name == "":
		return fmt.Errorf("organisations: table %s has no column %s (argument %s); it has %s", table, quoted, c.field, strings.Join(names[:min(len(names), 20)], ", "))
	case c.field == "id" && !in.Unique:
		return fmt.Errorf("organisations: column %s of %s has no unique index of its own, so a row cannot be found by it: create one, or give another column as argument id", quoted, table)
	case c.field == "id" && (in.Base == "int2" || in.Base == "int4" || in.Base == "int8"):
		c.like = "int8"
	case (c.field == "id" || c.field == "key") && in.Base == "uuid":
		c.like, c.of = "uuid", orgKey
	case c.field == "id" && (in.Base == "text" || in.Base == "varchar"):
		c.of = orgKey
	case c.field == "id":
		return fmt.Errorf("organisations: column %s of %s is of type %s, want smallint, integer or bigint for the tenant's org_id, or text or uuid for its org_key", quoted, table, in.Type)
	case !text && c.field == "key":
		return fmt.Errorf("organisations: column %s of %s is of type %s, want text or uuid for the tenant's org_key", quoted, table, in.Type)
	case !text:
		return fmt.Errorf("organisations: column %s of %s is of type %s, want text for the tenant's %s", quoted, table, in.Type, c.field)
	}
	return nil
}

// firstUnfilled is a column that we know nothing of and that must have a value: no row can
// be added to such a table.
func (p *plan) firstUnfilled(columns []found) string {
	for _, f := range columns {
		ours := slices.ContainsFunc(p.columns, func(c column) bool { return c.name == f.Name })
		if !ours && !f.Filled {
			return f.Name
		}
	}
	return ""
}

// lockSQL takes the lock of all jobs about one table, until the transaction ends.
const lockSQL = `SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('headgate.organisations ' || $1, 0))`

// lock has jobs about one table follow each other. Without it an older list could be
// written over a newer one.
func (p *plan) lock(ctx context.Context, tx pgx.Tx) error {
	var got bool
	if err := tx.QueryRow(ctx, lockSQL, p.table.Sanitize()).Scan(&got); err != nil {
		return fmt.Errorf("organisations: waiting for other jobs on %s: %w", p.table.Sanitize(), err)
	}
	if !got {
		return jobs.Snooze(again)
	}
	return nil
}

// row is a row of the table: what its columns hold, "" for NULL.
type row struct {
	values []string
	null   bool // it has no id
}

// rows reads the table.
func (p *plan) rows(ctx context.Context, tx pgx.Tx) ([]row, error) {
	columns := make([]string, len(p.columns))
	for i, c := range p.columns {
		columns[i] = "coalesce(" + c.quoted() + "::text, '')"
	}
	sql := "SELECT " + p.columns[0].quoted() + " IS NULL, ARRAY[" + strings.Join(columns, ", ") + "] FROM " + p.table.Sanitize() + " LIMIT $1"
	found, err := tx.Query(ctx, sql, MaxRows+1)
	if err != nil {
		return nil, fmt.Errorf("organisations: reading %s: %w", p.table.Sanitize(), err)
	}
	rows, err := pgx.CollectRows(found, func(found pgx.CollectableRow) (r row, err error) {
		return r, found.Scan(&r.null, &r.values)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("organisations: reading %s: %w", p.table.Sanitize(), err)
	case len(rows) > MaxRows:
		return nil, jobs.Cancel(fmt.Errorf("organisations: table %s has more than %d rows: a database's own organisations are fewer", p.table.Sanitize(), MaxRows))
	}
	return rows, nil
}

func (c column) quoted() string { return pgx.Identifier{c.name}.Sanitize() }

package tenancy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/relation"
)

// removal is what became of rows too many.
type removal struct {
	removed int64
	left    []row  // all that are still there
	why     string // why those are left, "" if nobody has asked to remove them
}

// removeRows deletes rows too many, as far as nobody has locked them, the catalog still knows
// no tenant for them and no foreign key refers to them. A session that adds a row which
// refers to a locked one waits for this transaction, so that nothing is added in between.
func (p *plan) removeRows(ctx context.Context, tx pgx.Tx, extra []row, source Source) (removal, error) {
	if len(extra) > p.removeMost {
		return removal{left: extra, why: fmt.Sprintf("they are more than remove_most, %d: none is removed", p.removeMost)}, nil
	}
	ids, err := p.own(ctx, tx, extra)
	if err != nil || len(ids) == 0 {
		return removal{left: extra, why: "other sessions have locked them, or they have no id"}, err
	}
	tenants, err := placed(ctx, tx, source) // as of now: a tenant may have come since
	if err != nil {
		return removal{}, err
	}
	for _, t := range tenants {
		if values, err := p.values(t); err == nil {
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == values[0] })
		}
	}
	referred, by, err := p.referred(ctx, tx, ids)
	if err != nil {
		return removal{}, err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(referred, id) })
	gone, why, err := p.deleteRows(ctx, tx, ids)
	if err != nil {
		return removal{}, fmt.Errorf("organisations: deleting rows of %s: %w", p.table.Sanitize(), err)
	}
	left := slices.DeleteFunc(slices.Clone(extra), func(r row) bool { return !r.null && gone[r.values[0]] })
	if len(by) > 0 {
		why = append(why, "rows refer to them in "+strings.Join(by, ", "))
	}
	if len(why) == 0 {
		why = []string{"other sessions have locked them, or a tenant has come for them"}
	}
	return removal{removed: int64(len(gone)), left: left, why: strings.Join(why, "; ")}, nil
}

// deleteRows deletes the rows of some ids, and says which are gone and why others are not.
func (p *plan) deleteRows(ctx context.Context, tx pgx.Tx, ids []string) (gone map[string]bool, why []string, err error) {
	id := p.columns[0].quoted()
	sql := "DELETE FROM " + p.table.Sanitize() + " WHERE " + id + same + "ANY ($1::pg_catalog.text[]::" + p.arrayType() + ") RETURNING " + id + "::pg_catalog.text"
	gone = make(map[string]bool, len(ids))
	deletion := apart[string]{
		do: func(ctx context.Context, tx pgx.Tx, ids []string) error {
			var these []string
			err := p.asApplication(ctx, tx, func() (err error) {
				rows, _ := tx.Query(ctx, sql, ids) // its error is CollectRows' too
				these, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
			if err == nil {
				for _, one := range these {
					gone[one] = true
				}
			}
			return err
		},
		aside: func(_, said string, locked bool) {
			if locked {
				said = "other sessions hold what their deletion needs"
			}
			if !slices.Contains(why, said) && len(why) < named {
				why = append(why, said)
			}
		},
	}
	err = deletion.run(ctx, tx, ids)
	if deletion.untried > 0 {
		why = append(why, fmt.Sprintf("%d were not tried after those", deletion.untried))
	}
	return gone, why, err
}

// arrayType is the type of a list of ids.
func (p *plan) arrayType() string {
	if like := p.columns[0].like; like != "" {
		return "pg_catalog." + like + "[]"
	}
	return "pg_catalog.text[]"
}

// own locks rows that nobody has locked, and returns their ids.
func (p *plan) own(ctx context.Context, tx pgx.Tx, rows []row) ([]string, error) {
	ids := make([]string, 0, len(rows))
	for _, r := range rows {
		if !r.null {
			ids = append(ids, r.values[0])
		}
	}
	id := p.columns[0].quoted()
	sql := "SELECT " + id + "::text FROM " + p.table.Sanitize() + " WHERE " + id + " = ANY ($1::text[]::" + p.arrayType() + ") FOR UPDATE SKIP LOCKED"
	found, err := tx.Query(ctx, sql, ids)
	if err == nil {
		ids, err = pgx.CollectRows(found, pgx.RowTo[string])
	}
	if err != nil {
		return nil, fmt.Errorf("organisations: locking rows too many of %s: %w", p.table.Sanitize(), err)
	}
	return ids, nil
}

// findReferences has the foreign keys that refer to the table: the referring table, whether
// this login sees all of its rows, and the columns there and here.
const findReferences = `
SELECT f.conrelid, format('%I.%I', n.nspname, c.relname),
       pg_catalog.has_table_privilege(f.conrelid, 'SELECT') AND NOT pg_catalog.row_security_active(f.conrelid),
       ARRAY(SELECT quote_ident(x.attname) FROM unnest(f.conkey) WITH ORDINALITY AS k (num, n) JOIN pg_catalog.pg_attribute x ON x.attrelid = f.conrelid AND x.attnum = k.num ORDER BY k.n),
       ARRAY(SELECT quote_ident(y.attname) FROM unnest(f.confkey) WITH ORDINALITY AS k (num, n) JOIN pg_catalog.pg_attribute y ON y.attrelid = f.confrelid AND y.attnum = k.num ORDER BY k.n)
  FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid = f.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE f.contype = 'f' AND f.confrelid = $1::oid AND f.conparentid = 0
 ORDER BY 2, f.conname`

type reference struct {
	OID         uint32
	Table       string
	Visible     bool
	There, Here []string // the columns of the referring table, and those of this one
}

func (r reference) on() string {
	terms := make([]string, len(r.Here))
	for i := range r.Here {
		terms[i] = fmt.Sprintf("c.%s = t.%s", r.There[i], r.Here[i])
	}
	return strings.Join(terms, " AND ")
}

// referred returns those of the ids that a foreign key refers to, whatever it would do upon
// a DELETE, and the tables that do. Of a table whose rows this login cannot see all might.
func (p *plan) referred(ctx context.Context, tx pgx.Tx, ids []string) (referred, by []string, err error) {
	found, err := tx.Query(ctx, findReferences, p.oid)
	if err != nil {
		return nil, nil, fmt.Errorf("organisations: looking for foreign keys to %s: %w", p.table.Sanitize(), err)
	}
	references, err := pgx.CollectRows(found, pgx.RowToStructByPos[reference])
	if err != nil {
		return nil, nil, fmt.Errorf("organisations: looking for foreign keys to %s: %w", p.table.Sanitize(), err)
	}
	for _, r := range references {
		if !r.Visible {
			return ids, []string{r.Table + ", which this login cannot read whole"}, nil
		}
		these, err := p.referredBy(ctx, tx, r, ids)
		if refused := (*relation.RefusedError)(nil); errors.As(err, &refused) {
			return ids, []string{r.Table + ", which is not read: " + refused.Why}, nil
		}
		if heldRow(err) {
			return ids, []string{r.Table + ", which another session has locked"}, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("organisations: looking for rows of %s that refer to %s: %w", r.Table, p.table.Sanitize(), err)
		}
		if len(these) > 0 {
			referred, by = append(referred, these...), append(by, r.Table)
		}
	}
	return referred, by, nil
}

// referredBy returns those of the ids that one foreign key refers to. The savepoint keeps the
// job's transaction where the table is refused.
func (p *plan) referredBy(ctx context.Context, tx pgx.Tx, r reference, ids []string) (these []string, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		own := p.held(relation.Delete)
		own.Columns = append(own.Columns, r.Here...)
		if _, err := relation.Lock(ctx, tx, own, relation.Table{Name: r.Table, OID: r.OID, Columns: r.There}); err != nil {
			return err
		}
		id := "t." + p.columns[0].quoted()
		rows, _ := tx.Query(ctx, "SELECT "+id+"::text FROM "+p.table.Sanitize()+" AS t WHERE "+id+" = ANY ($1::text[]::"+p.arrayType()+") AND EXISTS (SELECT FROM "+r.Table+" AS c WHERE "+r.on()+")", ids)
		these, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return these, err
}

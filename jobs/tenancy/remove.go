package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
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
// this login sees all of its rows, and the condition that joins it, c, to the table, t.
const findReferences = `
SELECT f.conrelid::regclass::text,
       pg_catalog.has_table_privilege(f.conrelid, 'SELECT') AND NOT pg_catalog.row_security_active(f.conrelid),
       (SELECT string_agg(format('c.%I = t.%I', x.attname, y.attname), ' AND ')
          FROM unnest(f.conkey, f.confkey) AS k (here, there)
          JOIN pg_catalog.pg_attribute x ON x.attrelid = f.conrelid AND x.attnum = k.here
          JOIN pg_catalog.pg_attribute y ON y.attrelid = f.confrelid AND y.attnum = k.there)
  FROM pg_catalog.pg_constraint f
 WHERE f.contype = 'f' AND f.confrelid = to_regclass($1) AND f.conparentid = 0
 ORDER BY 1, f.conname`

type reference struct {
	Table   string
	Visible bool
	On      string
}

// referred returns those of the ids that a foreign key refers to, whatever it would do upon
// a DELETE, and the tables that do. Of a table whose rows this login cannot see all might.
func (p *plan) referred(ctx context.Context, tx pgx.Tx, ids []string) (referred, by []string, err error) {
	found, err := tx.Query(ctx, findReferences, p.table.Sanitize())
	if err != nil {
		return nil, nil, fmt.Errorf("organisations: looking for foreign keys to %s: %w", p.table.Sanitize(), err)
	}
	references, err := pgx.CollectRows(found, pgx.RowToStructByPos[reference])
	if err != nil {
		return nil, nil, fmt.Errorf("organisations: looking for foreign keys to %s: %w", p.table.Sanitize(), err)
	}
	id := "t." + p.columns[0].quoted()
	for _, r := range references {
		if !r.Visible {
			return ids, []string{r.Table + ", which this login cannot read whole"}, nil
		}
		sql := "SELECT " + id + "::text FROM " + p.table.Sanitize() + " AS t WHERE " + id + " = ANY ($1::text[]::" + p.arrayType() + ") AND EXISTS (SELECT FROM " + r.Table + " AS c WHERE " + r.On + ")"
		found, err := tx.Query(ctx, sql, ids)
		if err != nil {
			return nil, nil, fmt.Errorf("organisations: looking for rows of %s that refer to %s: %w", r.Table, p.table.Sanitize(), err)
		}
		these, err := pgx.CollectRows(found, pgx.RowTo[string])
		if err != nil {
			return nil, nil, fmt.Errorf("organisations: looking for rows of %s that refer to %s: %w", r.Table, p.table.Sanitize(), err)
		}
		if len(these) > 0 {
			referred, by = append(referred, these...), append(by, r.Table)
		}
	}
	return referred, by, nil
}

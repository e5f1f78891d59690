package erasure

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// loosen ends references in a circle, as of an account to its first contact and of the contact
// to its account: none of the two rows could go first. Where rows stay because they are
// referred to, columns of the tenant's own rows that refer to them are set to NULL, if they
// may be. The column by which a row is found to be the tenant's is never changed. It returns
// how many rows it has changed.
func (e *eraser) loosen(ctx context.Context) (changed int64, err error) {
	for _, l := range e.told.left {
		if l.referred == 0 {
			continue
		}
		for _, r := range l.references {
			from := e.plan.byOID[r.From]
			if from == nil {
				continue
			}
			columns := slices.DeleteFunc(slices.Clone(r.Nullable), func(c string) bool { return c == from.Column || slices.Contains(from.Here, c) })
			where, ok := e.plan.condition(from)
			if len(columns) == 0 || !ok {
				continue
			}
			n, err := e.loosenTable(ctx, from, columns, where)
			if changed += n; err != nil {
				return changed, fmt.Errorf("ending the references of %s: %w", from.Name, err)
			}
		}
	}
	return changed, nil
}

func (e *eraser) loosenTable(ctx context.Context, from *table, columns []string, where string) (changed int64, err error) {
	sets := strings.Join(columns, " = NULL, ") + " = NULL"
	for _, p := range from.parts {
		if e.untouchable(p) != "" {
			continue
		}
		sql := fmt.Sprintf("UPDATE ONLY %[1]s SET %[2]s WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM ONLY %[1]s t WHERE %[3]s AND t.%[4]s IS NOT NULL LIMIT %[5]d FOR UPDATE OF t SKIP LOCKED))",
			p.Name, sets, where, strings.Join(columns, " IS NOT NULL AND t."), e.cfg.Batch)
		for {
			tag, err := e.conn.Exec(ctx, sql)
			if refusal(err) != "" {
				break // the rows that stay are told of
			}
			if err != nil {
				return changed, err
			}
			if changed += tag.RowsAffected(); tag.RowsAffected() == 0 {
				break
			}
		}
	}
	return changed, nil
}

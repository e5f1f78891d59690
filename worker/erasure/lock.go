package erasure

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/relation"
)

// lock locks what statements about a part's rows name: the part, the parents by which a row is
// the tenant's, and the tables that refer to it. What has another name or other code than it
// may have by then is refused.
func (e *eraser) lock(ctx context.Context, tx pgx.Tx, use relation.Use, t *table, p part, by []reference) error {
	part := relation.Table{Name: p.Name, OID: p.OID, Use: use, Only: true, Columns: t.named()}
	parents := e.plan.parents(t)
	var referring []relation.Table
	for _, r := range by {
		if !r.Visible { // no statement names it
			continue
		}
		part.Columns = append(part.Columns, r.Here...)
		from := relation.Table{Name: r.Table, OID: r.From, Columns: slices.Clone(r.There)}
		if declared := e.plan.byOID[r.From]; declared != nil {
			from.Columns = append(from.Columns, declared.named()...)
			parents = append(parents, e.plan.parents(declared)...)
		}
		referring = append(referring, from)
	}
	_, err := relation.Lock(ctx, tx, slices.Concat([]relation.Table{part}, parents, referring)...)
	return err
}

// named are the columns by which a condition knows the tenant's rows of a table. They are never
// nil, which would mean all.
func (t *table) named() []string {
	if t.Column != "" {
		return []string{t.Column}
	}
	return append([]string{}, t.Here...)
}

// parents are the tables that a condition about a table's rows names.
func (p *plan) parents(t *table) (all []relation.Table) {
	for ; t.Column == ""; t = p.byOID[t.Parent] {
		parent := p.byOID[t.Parent]
		all = append(all, relation.Table{Name: parent.Name, OID: parent.OID, Columns: append(parent.named(), t.There...)})
	}
	return all
}

// inLock runs a query of one row about a part's rows, in a transaction of its own behind the
// lock.
func (e *eraser) inLock(ctx context.Context, t *table, p part, by []reference, sql string, into ...any) error {
	return e.inTx(ctx, func(tx pgx.Tx) error {
		if err := e.lock(ctx, tx, relation.Read, t, p, by); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sql).Scan(into...)
	})
}

// any is 1 if a part has a row of the tenant.
func (e *eraser) any(ctx context.Context, t *table, p part) (n int64, err error) {
	sql := fmt.Sprintf("SELECT CASE WHEN EXISTS (SELECT FROM ONLY %s t WHERE %s) THEN 1 ELSE 0 END", p.Name, e.plan.condition(t))
	return n, e.inLock(ctx, t, p, nil, sql, &n)
}

// countPart is how many rows of the tenant a part has.
func (e *eraser) countPart(ctx context.Context, t *table, p part) (n int64, err error) {
	if e.untouchable(p) != "" {
		return 0, nil
	}
	sql := fmt.Sprintf("SELECT pg_catalog.count(*) FROM ONLY %s t WHERE %s", p.Name, e.plan.condition(t))
	return n, e.inLock(ctx, t, p, nil, sql, &n)
}

// holdSQL has the stamp of a table that is locked.
const holdSQL = `SELECT o.code <> '' OR o.stamp <> $2 FROM headgate.on_delete($1) o`

// constraintsAtOnce has a constraint of the application that is deferred refuse its row, and
// not the commit of all.
const constraintsAtOnce = `SET CONSTRAINTS ALL IMMEDIATE`

// hold locks a part as its deletion will, so that no trigger, rule or foreign key comes any
// more, and says whether what was there has changed since the plan was made.
func (e *eraser) hold(ctx context.Context, tx pgx.Tx, t *table, p part) (changed bool, err error) {
	if err := e.lock(ctx, tx, relation.Delete, t, p, t.references); err != nil {
		return false, err
	}
	if err := tx.QueryRow(ctx, holdSQL, p.OID, p.Stamp).Scan(&changed); err != nil || changed {
		return changed, err
	}
	_, err = tx.Exec(ctx, constraintsAtOnce)
	return false, err
}

package maintenance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// RunPurge is the handler of [Purge], a [jobs.TxHandler].
//
// It deletes batch by batch until nothing old is left or MaxRows is reached; the
// transaction's start decides what is old. Other sessions go on reading the
// table; one that wants to change a doomed row waits for the job's end. On
// success Result.Rows is the number of rows deleted, without those that went by
// cascade, and Result.Output says so and whether more remain; then run it again.
//
// A batch costs a walk along the column's index, or over the table without one.
// Arguments that can never work end the job for good ([jobs.Cancel]); a table or
// column that is not there is an error like any other.
func RunPurge(ctx context.Context, tx pgx.Tx, job *jobs.Job[Purge]) error {
	plan, err := job.Args.plan()
	if err != nil {
		return jobs.Cancel(err)
	}
	if err := plan.checkColumn(ctx, tx); err != nil {
		return err
	}
	deleted, err := plan.deleteAll(ctx, tx)
	if err != nil {
		return err
	}
	job.Result.Rows = deleted
	job.Result.Output = fmt.Sprintf("deleted %d rows of %s older than %s", deleted, job.Args.Table, job.Args.OlderThan)
	if deleted < int64(plan.maxRows) {
		return nil
	}
	more, err := plan.moreRemain(ctx, tx)
	if err == nil && more {
		job.Result.Output += "; more remain: run it again"
	}
	return err
}

// findColumn has a row of NULLs where the table or the column is missing.
const findColumn = `
SELECT c.relkind IN ('r', 'p'), format_type(a.atttypid, a.atttypmod),
       COALESCE(NULLIF(t.typbasetype, 0), t.oid) IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
  FROM (SELECT to_regclass($1) AS oid) r
  LEFT JOIN pg_class c ON c.oid = r.oid
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_type t ON t.oid = a.atttypid`

// checkColumn says what is wrong with the table or the column before anything
// is deleted.
func (p *plan) checkColumn(ctx context.Context, tx pgx.Tx) error {
	var isTable, isTime *bool
	var kind *string
	table, column := p.table.Sanitize(), p.column[0]
	if err := tx.QueryRow(ctx, findColumn, table, column).Scan(&isTable, &kind, &isTime); err != nil {
		return fmt.Errorf("purge: looking up %s: %w", table, err)
	}
	switch {
	case isTable == nil:
		return fmt.Errorf("purge: table %s does not exist, or is not on the search path: name its schema too", table)
	case !*isTable:
		return fmt.Errorf("purge: %s is not a table: name the table behind it", table)
	case kind == nil:
		return fmt.Errorf("purge: table %s has no column %s: check its name and case", table, p.column.Sanitize())
	case !*isTime:
		return fmt.Errorf("purge: column %s of %s is of type %s, want date, timestamp or timestamptz", p.column.Sanitize(), table, *kind)
	}
	return nil
}

// deleteAll deletes in batches. A batch that deletes less than it may is the
// last: nothing old is left, or a trigger keeps it.
func (p *plan) deleteAll(ctx context.Context, tx pgx.Tx) (int64, error) {
	statement := p.deleteSQL()
	deleted, most := int64(0), int64(p.maxRows)
	for deleted < most {
		batch := min(int64(p.batch), most-deleted)
		tag, err := tx.Exec(ctx, statement, p.hours, batch)
		if err != nil {
			return 0, fmt.Errorf("purge: deleting from %s: %w", p.table.Sanitize(), err)
		}
		deleted += tag.RowsAffected()
		if tag.RowsAffected() < batch {
			break
		}
	}
	return deleted, nil
}

// deleteSQL finds a batch of old rows by their place in the table, ctid, and
// deletes what is there, without sorting and without a key. That the age stands
// in the outer statement too is no repetition: the partitions of a table have
// the same ctids, and what sits there in another partition may be young. So a
// batch of a partitioned table may delete more rows than its limit, all old.
func (p *plan) deleteSQL() string {
	table, old := p.table.Sanitize(), p.isOld()
	return "DELETE FROM " + table + " WHERE " + old + " AND ctid = ANY (ARRAY(SELECT ctid FROM " + table + " WHERE " + old + " LIMIT $2))"
}

// moreRemain tells whether the limit stopped the purge.
func (p *plan) moreRemain(ctx context.Context, tx pgx.Tx) (more bool, err error) {
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+p.table.Sanitize()+" WHERE "+p.isOld()+")", p.hours).Scan(&more)
	if err != nil {
		return false, fmt.Errorf("purge: looking for more in %s: %w", p.table.Sanitize(), err)
	}
	return more, nil
}

// isOld is the condition for a row to go; $1 is the age in hours.
func (p *plan) isOld() string {
	return p.column.Sanitize() + " < now() - make_interval(hours => $1)"
}

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
// In a database that tenants share, a table whose rows row-level security does not
// guard from this login is refused before anything is deleted: the job ends for good
// with class unguarded. If the table has a numeric column org_id, a purge deletes rows
// of its own organisation only, whatever the policies say.
//
// A batch costs a walk along the column's index, or over the table without one.
// Arguments that can never work end the job for good ([jobs.Cancel]); a table or
// column that is not there is an error like any other.
func RunPurge(ctx context.Context, tx pgx.Tx, job *jobs.Job[Purge]) error {
	plan, err := job.Args.plan()
	if err != nil {
		return jobs.Cancel(fmt.Errorf("purge: %w", err))
	}
	if err := plan.checkColumn(ctx, tx); err != nil {
		return err
	}
	if !job.Dedicated {
		if err := plan.checkGuard(ctx, tx); err != nil {
			return err
		}
	}
	deleted, err := plan.deleteAll(ctx, tx)
	if err != nil {
		return err
	}
	job.Result.Rows = deleted
	job.Result.Output = fmt.Sprintf("deleted %s of %s older than %s", jobs.Count(deleted, "row"), job.Args.Table, job.Args.OlderThan)
	more, err := plan.moreRemain(ctx, tx)
	switch {
	case err != nil:
		return err
	case more && deleted < int64(plan.maxRows):
		job.Result.Output += "; more remain, which a trigger keeps or others are changing: run it again"
	case more:
		job.Result.Output += "; more remain: run it again"
	}
	return nil
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

// findGuard looks at what keeps this login to its tenant's rows of a table: whether
// row-level security holds for it there, its owner and superusers not being held;
// whether a policy lets it delete any row nevertheless; and whether there is a number
// of the organisation in each row. A partition is guarded by the policies of the table
// that a statement names.
const findGuard = `
WITH mine AS (
    SELECT polpermissive AS permissive, polcmd AS cmd, pg_catalog.pg_get_expr(polqual, polrelid) = 'true' AS open
      FROM pg_catalog.pg_policy
     WHERE polrelid = to_regclass($1) AND polcmd IN ('*', 'r', 'd')
       AND EXISTS (SELECT FROM unnest(polroles) AS r WHERE CASE r WHEN 0 THEN true ELSE pg_catalog.pg_has_role(r, 'USAGE') END)
)
SELECT pg_catalog.row_security_active(to_regclass($1)),
       NOT EXISTS (SELECT FROM mine WHERE NOT permissive)
           AND EXISTS (SELECT FROM mine WHERE open AND cmd IN ('*', 'r'))
           AND EXISTS (SELECT FROM mine WHERE open AND cmd IN ('*', 'd')),
       EXISTS (SELECT FROM pg_catalog.pg_attribute
                WHERE attrelid = to_regclass($1) AND attname = 'org_id' AND attnum > 0 AND NOT attisdropped
                  AND atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype))`

// checkGuard refuses a table of which this login could delete other tenants' rows.
func (p *plan) checkGuard(ctx context.Context, tx pgx.Tx) error {
	var active, open, numbered bool
	table := p.table.Sanitize()
	if err := tx.QueryRow(ctx, findGuard, table).Scan(&active, &open, &numbered); err != nil {
		return fmt.Errorf("purge: looking at the policies of %s: %w", table, err)
	}
	p.ownOrg = numbered
	const remedy = "have the database's operator run `headgate database protect DATABASE --table %[2]s`, which gives the table a policy and leaves the application's own statements as they are; then run it again"
	switch {
	case !active:
		return jobs.Cancel(fmt.Errorf("purge: %w: row-level security does not hold this login in table %[2]s, which tenants share: "+remedy, jobs.ErrUnguarded, table))
	case open && !numbered:
		return jobs.Cancel(fmt.Errorf("purge: %w: a policy of table %[2]s, which tenants share, lets this login delete every row: "+remedy, jobs.ErrUnguarded, table))
	}
	return nil
}

// deleteAll deletes in batches, and ends when there is nothing left that it can
// delete. A batch may come back short: somebody changed or deleted one of its rows
// meanwhile, or a trigger kept it. Such rows are passed over, and looked at again when
// the end is reached, as long as that still deletes anything.
func (p *plan) deleteAll(ctx context.Context, tx pgx.Tx) (int64, error) {
	statement := p.deleteSQL()
	deleted, passed, inPass := int64(0), int64(0), int64(0)
	for most := int64(p.maxRows); deleted < most; {
		var found, gone int64
		err := tx.QueryRow(ctx, statement, p.hours, min(int64(p.batch), most-deleted), passed).Scan(&found, &gone)
		if err != nil {
			return 0, fmt.Errorf("purge: deleting from %s: %w", p.table.Sanitize(), err)
		}
		deleted, inPass, passed = deleted+gone, inPass+gone, passed+max(0, found-gone)
		if found > 0 {
			continue
		}
		if passed == 0 || inPass == 0 {
			break
		}
		passed, inPass = 0, 0
	}
	return deleted, nil
}

// deleteSQL finds a batch of old rows by their place in the table, ctid, and
// deletes what is there, without sorting and without a key; it tells how many it has
// found and how many are gone. That the age stands in the outer statement too is no
// repetition: the partitions of a table have the same ctids, and what sits there in
// another partition may be young. So a batch of a partitioned table may delete more
// rows than its limit, all old.
func (p *plan) deleteSQL() string {
	table, old := p.table.Sanitize(), p.isOld()
	return "WITH found AS MATERIALIZED (SELECT ctid FROM " + table + " WHERE " + old + " LIMIT $2 OFFSET $3)," +
		" gone AS (DELETE FROM " + table + " WHERE " + old + " AND ctid = ANY (ARRAY(SELECT ctid FROM found)) RETURNING 1)" +
		" SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM gone)"
}

// moreRemain tells whether old rows are left, whatever has kept them.
func (p *plan) moreRemain(ctx context.Context, tx pgx.Tx) (more bool, err error) {
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+p.table.Sanitize()+" WHERE "+p.isOld()+")", p.hours).Scan(&more)
	if err != nil {
		return false, fmt.Errorf("purge: looking for more in %s: %w", p.table.Sanitize(), err)
	}
	return more, nil
}

// isOld is the condition for a row to go; $1 is the age in hours.
func (p *plan) isOld() string {
	old := p.column.Sanitize() + " < now() - make_interval(hours => $1)"
	if p.ownOrg {
		old += " AND org_id = (SELECT headgate.current_org())"
	}
	return old
}

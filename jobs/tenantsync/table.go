package tenantsync

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/relation"
	"github.com/headgate/headgate/jobs/wire"
)

// open looks at the table, takes its lock and returns its rows.
func open(ctx context.Context, tx pgx.Tx, args Args) (rows Rows, err error) {
	name, err := args.table()
	if err != nil {
		return rows, jobs.Cancel(fmt.Errorf("sync: %w", err))
	}
	t := table{tx: tx, name: name.Sanitize()}
	oids, err := relation.Lock(ctx, tx, relation.Table{Name: t.name, View: true})
	if err != nil {
		return rows, fmt.Errorf("sync: %w", err)
	}
	if err := t.look(ctx, oids[0]); err != nil {
		return rows, err
	}
	if err := t.lock(ctx); err != nil {
		return rows, err
	}
	rows.Columns, err = t.columns(ctx)
	rows.Each, rows.Ours = t.each, t.ours
	return rows, err
}

// table is a table or view within a job's transaction.
type table struct {
	tx   pgx.Tx
	name string // quoted
}

// findTable is what there is to know of the locked table before it is read. The login may be
// a member of the application's own role, so a table of that role will do. A row is read as an
// object of JSON, and a value of a type with a cast to json is converted by the cast's function.
const findTable = `
SELECT c.relkind IN ('r', 'p', 'v', 'm', 'f'), pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.row_security_active(c.oid), session_user::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
       coalesce((SELECT y.castfunc::regprocedure::text FROM pg_catalog.pg_cast y JOIN pg_catalog.pg_proc p ON p.oid = y.castfunc JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
                  WHERE y.casttarget = 'pg_catalog.json'::regtype AND y.castsource >= 16384 AND NOT o.rolsuper AND o.rolname <> session_user LIMIT 1), '')
  FROM pg_catalog.pg_class c WHERE c.oid = $1`

// look says what is wrong with the table before it is read.
func (t table) look(ctx context.Context, oid uint32) error {
	var isRelation, ours, hidden bool
	var login, owner, cast string
	err := t.tx.QueryRow(ctx, findTable, oid).Scan(&isRelation, &ours, &hidden, &login, &owner, &cast)
	switch {
	case err != nil:
		return fmt.Errorf("sync: looking up %s: %w", t.name, err)
	case !isRelation:
		return fmt.Errorf("sync: %s is neither a table nor a view", t.name)
	case !ours:
		return fmt.Errorf("sync: %s belongs to role %s, whose rights the owner's login %s does not have, and its SQL would run with this login's: have an administrator run ALTER TABLE %[1]s OWNER TO %[3]s, or make a view of this login's own",
			t.name, pgx.Identifier{owner}.Sanitize(), pgx.Identifier{login}.Sanitize())
	case cast != "":
		return fmt.Errorf("sync: function %s of a cast to json would run with the rights of the owner's login %s: have its owner run DROP CAST, or an administrator ALTER FUNCTION %[1]s OWNER TO %[2]s once the function has been read",
			cast, pgx.Identifier{login}.Sanitize())
	case hidden:
		return fmt.Errorf("sync: row-level security hides rows of %s from login %s: leave FORCE ROW LEVEL SECURITY off, or make the login its owner", t.name, pgx.Identifier{login}.Sanitize())
	}
	return nil
}

// lockSQL takes the lock of all syncs of one table, until the transaction ends.
const lockSQL = `SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('headgate.sync ' || $1, 0))`

// lock has syncs of one table follow each other. Without it rows that were read earlier could
// be written over later ones.
func (t table) lock(ctx context.Context) error {
	var got bool
	if err := t.tx.QueryRow(ctx, lockSQL, t.name).Scan(&got); err != nil {
		return fmt.Errorf("sync: waiting for other syncs of %s: %w", t.name, err)
	}
	if !got {
		return jobs.Snooze(again)
	}
	return nil
}

// ours asks for anything: a transaction that answers still has its lock.
func (t table) ours(ctx context.Context) error {
	if _, err := t.tx.Exec(ctx, "SELECT"); err != nil {
		return fmt.Errorf("sync: nothing was written, because the lock on %s may be lost: %w", t.name, err)
	}
	return nil
}

func (t table) columns(ctx context.Context) (names []string, err error) {
	rows, err := t.tx.Query(ctx, "SELECT * FROM "+t.name+" LIMIT 0")
	if err != nil {
		return nil, fmt.Errorf("sync: reading %s: %w", t.name, err)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sync: reading %s: %w", t.name, err)
	}
	for _, field := range rows.FieldDescriptions() {
		names = append(names, field.Name)
	}
	return names, nil
}

// each reads by a cursor, so that a page of rows is in memory.
func (t table) each(ctx context.Context, do func(row []byte) error) error {
	if _, err := t.tx.Exec(ctx, "DECLARE headgate_sync NO SCROLL CURSOR FOR "+wire.RowsBegin+t.name+wire.RowsEnd); err != nil {
		return fmt.Errorf("sync: reading %s: %w", t.name, err)
	}
	for {
		n, err := t.page(ctx, do)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if _, err := t.tx.Exec(ctx, "CLOSE headgate_sync"); err != nil {
		return fmt.Errorf("sync: reading %s: %w", t.name, err)
	}
	return nil
}

// page hands over the next rows, and returns how many there were.
func (t table) page(ctx context.Context, do func(row []byte) error) (n int, err error) {
	rows, err := t.tx.Query(ctx, "FETCH 1000 FROM headgate_sync")
	if err != nil {
		return 0, fmt.Errorf("sync: reading %s: %w", t.name, err)
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		if err := do(rows.RawValues()[0]); err != nil {
			return n, err
		}
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("sync: reading %s: %w", t.name, err)
	}
	return n, nil
}

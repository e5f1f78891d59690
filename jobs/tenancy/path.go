package tenancy

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/relation"
	"github.com/headgate/headgate/jobs/session"
)

// The job works with the owner's rights in a database where the application makes functions
// and operators. What the job only reads runs under Postgres's own search_path. A write starts
// the table's triggers, which expect the application's path, so it runs under that one and
// names everything in full.

// same is Postgres's own =.
const same = " OPERATOR(pg_catalog.=) "

const selectPath = `SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout')`

// enter remembers the application's search_path, changes it for the transaction, and
// remembers how long the session waits for locks.
func (p *plan) enter(ctx context.Context, tx pgx.Tx) error {
	if err := tx.QueryRow(ctx, selectPath).Scan(&p.path, &p.wait); err != nil {
		return fmt.Errorf("organisations: asking for the search_path and lock_timeout: %w", err)
	}
	return setOwnPath(ctx, tx)
}

func setOwnPath(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, session.OwnPath); err != nil {
		return fmt.Errorf("organisations: setting the search_path: %w", err)
	}
	return nil
}

const setPath = `SELECT pg_catalog.set_config('search_path', $1, true)`

// asApplication runs a write under the application's search_path, and has its deferred
// constraints judge the write as a COMMIT would. Without that one row that a deferred
// constraint refuses would keep all rows of the job back.
func (p *plan) asApplication(ctx context.Context, tx pgx.Tx, write func() error) error {
	if _, err := tx.Exec(ctx, setPath, p.path); err != nil {
		return fmt.Errorf("setting the search_path: %w", err)
	}
	if err := write(); err != nil {
		return err // the savepoint, or the transaction, goes back
	}
	if p.deferred != "" {
		if _, err := tx.Exec(ctx, "SET CONSTRAINTS "+p.deferred+" IMMEDIATE; SET CONSTRAINTS "+p.deferred+" DEFERRED"); err != nil {
			return err
		}
	}
	return setOwnPath(ctx, tx)
}

// findDeferred has the application's constraints that are checked at COMMIT unless somebody
// asks before. Headgate's own one about the ledger's row must wait for the job's end.
const findDeferred = `
SELECT coalesce(string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', '), '')
  FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
 WHERE c.condeferred AND c.conparentid = 0 AND n.nspname <> 'headgate' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')`

// prepare is what stands between the look and the first write. The wait for the table is the
// session's own; from then on nobody locks the whole of it, and waits are for single rows.
func (p *plan) prepare(ctx context.Context, tx pgx.Tx) error {
	if err := p.hold(ctx, tx, relation.Write); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, findDeferred).Scan(&p.deferred); err != nil {
		return fmt.Errorf("organisations: looking for deferred constraints: %w", err)
	}
	return waitFor(ctx, tx, firstWait)
}

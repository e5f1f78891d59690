package tenancy

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/session"
)

// The job works with the owner's rights in a database where the application makes functions
// and operators. What the job only reads runs under Postgres's own search_path. A write starts
// the table's triggers, which expect the application's path, so it runs under that one and
// names everything in full.

// same is Postgres's own =.
const same = " OPERATOR(pg_catalog.=) "

const selectPath = `SELECT pg_catalog.current_setting('search_path')`

// enter remembers the application's search_path and changes it for the transaction.
func (p *plan) enter(ctx context.Context, tx pgx.Tx) error {
	if err := tx.QueryRow(ctx, selectPath).Scan(&p.path); err != nil {
		return fmt.Errorf("organisations: asking for the search_path: %w", err)
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

// asApplication runs a write under the application's search_path.
func (p *plan) asApplication(ctx context.Context, tx pgx.Tx, write func() error) error {
	if _, err := tx.Exec(ctx, setPath, p.path); err != nil {
		return fmt.Errorf("setting the search_path: %w", err)
	}
	if err := write(); err != nil {
		return err // the savepoint, or the transaction, goes back
	}
	return setOwnPath(ctx, tx)
}

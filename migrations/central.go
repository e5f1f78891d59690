package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// lockKey is the advisory lock that every migration of a database takes:
// "headgate" in ASCII.
const lockKey int64 = 0x6865616467617465

const (
	lockSession   = `SELECT pg_advisory_lock($1)`
	unlockSession = `SELECT pg_advisory_unlock($1)`
	lockTx        = `SELECT pg_advisory_xact_lock($1)`
	createSchema  = `CREATE SCHEMA IF NOT EXISTS headgate`
)

// Up brings the central database to this program's schema: River's tables
// first, then ours. It returns the names of what it applied, none if the schema
// was current. The connection must be a direct one (a session lock is held, so
// not through a transaction pooler). If it fails half way, what is applied
// stays applied, and the next Up goes on from there.
func Up(ctx context.Context, conn *pgx.Conn) (applied []string, err error) {
	if _, err := conn.Exec(ctx, lockSession, lockKey); err != nil {
		return nil, fmt.Errorf("waiting for the migration lock: %w", err)
	}
	defer func() {
		if _, unlockErr := conn.Exec(ctx, unlockSession, lockKey); err == nil && unlockErr != nil {
			err = fmt.Errorf("releasing the migration lock: %w", unlockErr)
		}
	}()
	if err := onePlace(ctx, conn); err != nil {
		return nil, err
	}
	if applied, err = upRiver(ctx, conn); err != nil {
		return applied, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, createSchema); err != nil {
			return fmt.Errorf("creating schema headgate: %w", err)
		}
		ours, err := applyAll(ctx, tx, central)
		applied = append(applied, ours...)
		return err
	})
	return applied, err
}

// upRiver applies River's own migrations, each in a transaction of its own: one
// of them adds an enum value that a later one uses, which Postgres refuses
// within a single transaction.
func upRiver(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	migrator, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	if err != nil {
		return nil, fmt.Errorf("preparing River's migrations: %w", err)
	}
	var applied []string
	for {
		var done int
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			//nolint:staticcheck // deprecated for batches; one step a transaction on our locked connection is what we need
			result, err := migrator.MigrateTx(ctx, tx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{MaxSteps: 1})
			if err != nil {
				return err
			}
			done = len(result.Versions)
			for _, v := range result.Versions {
				applied = append(applied, fmt.Sprintf("river_%03d", v.Version))
			}
			return nil
		})
		if err != nil {
			return applied, fmt.Errorf("applying River's migrations: %w", err)
		}
		if done == 0 {
			return applied, nil
		}
	}
}

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
	tryLockSession = `SELECT pg_try_advisory_lock($1)`
	unlockSession  = `SELECT pg_advisory_unlock($1)`
	lockTx         = `SELECT pg_advisory_xact_lock($1)`
	createSchema   = `CREATE SCHEMA IF NOT EXISTS headgate`
	selectRiver    = `SELECT to_regclass('river_job') IS NOT NULL`
)

// Up brings the central database to this program's schema: River's tables
// first, then ours. It returns the names of what it applied, none if the schema
// was current. The connection must be a direct one (a session lock is held, so
// not through a transaction pooler). If it fails half way, what is applied
// stays applied, and the next Up goes on from there.
//
// If the schema headgate belongs to a role that the login is a member of, everything is made
// as that role. At the end the roles of the database that are there are granted what they
// need ([ReadRoles] tells what then stands otherwise).
//
// Up may run while the database is at work. What it cannot get within opts.Wait is a
// [*LockedError]. opts may be nil.
func Up(ctx context.Context, conn *pgx.Conn, opts *UpOpts) (applied []string, err error) {
	return up(ctx, conn, opts, central)
}

// up is Up with migrations of the caller's.
func up(ctx context.Context, conn *pgx.Conn, opts *UpOpts, ours []migration) (applied []string, err error) {
	m, err := newMigrator(conn, opts, defaultWait)
	if err != nil {
		return nil, err
	}
	restore, err := m.prepareSession(ctx)
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := m.lock(ctx); err != nil {
		return nil, m.explain(err)
	}
	defer func() {
		if _, unlockErr := conn.Exec(ctx, unlockSession, lockKey); err == nil && unlockErr != nil {
			err = fmt.Errorf("releasing the migration lock: %w", unlockErr)
		}
	}()
	back, err := becomeOwner(ctx, conn)
	if err != nil {
		return nil, err
	}
	defer back()
	schema, err := onePlace(ctx, conn)
	if err != nil {
		return nil, err
	}
	var old bool
	if err := conn.QueryRow(ctx, selectRiver).Scan(&old); err != nil {
		return nil, fmt.Errorf("looking for River's tables: %w", err)
	}
	if applied, err = m.upRiver(ctx, RiverSchema(schema)); err != nil {
		return applied, m.explain(err)
	}
	done, err := m.upOurs(ctx, ours, !old)
	applied = append(applied, done...)
	if err == nil && len(ours) >= rolesVersion {
		err = m.shareRights(ctx)
	}
	return applied, m.explain(err)
}

// upRiver applies River's own migrations, each in a transaction of its own: one
// of them adds an enum value that a later one uses, which Postgres refuses
// within a single transaction. schema is where River's tables are; "" is for the first of the
// search_path.
func (m *migrator) upRiver(ctx context.Context, schema string) ([]string, error) {
	river, err := rivermigrate.New(riverpgxv5.New(nil), &rivermigrate.Config{Schema: schema})
	if err != nil {
		return nil, fmt.Errorf("preparing River's migrations: %w", err)
	}
	var applied []string
	for {
		var done []rivermigrate.MigrateVersion
		err := m.inTx(ctx, "a table for River's next migration", func(tx pgx.Tx) error {
			//nolint:staticcheck // deprecated for batches; one step a transaction on our locked connection is what we need
			result, err := river.MigrateTx(ctx, tx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{MaxSteps: 1})
			if err == nil {
				done = result.Versions
			}
			return err
		})
		if err != nil {
			return applied, fmt.Errorf("applying River's migrations: %w", err)
		}
		if len(done) == 0 {
			return applied, nil
		}
		for _, v := range done {
			applied = append(applied, fmt.Sprintf("river_%03d", v.Version))
		}
	}
}

// upOurs applies those of all that are missing. In a fresh database, whose queue
// nobody can have used yet, neighbouring files share a transaction.
func (m *migrator) upOurs(ctx context.Context, all []migration, fresh bool) ([]string, error) {
	var at int
	err := m.inTx(ctx, "schema headgate", func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, createSchema); err != nil {
			return fmt.Errorf("creating schema headgate: %w", err)
		}
		at, err = readApplied(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var applied []string
	for rest := after(all, at); len(rest) > 0; {
		n := 1
		for fresh && rest[0].indexes == nil && n < len(rest) && rest[n].indexes == nil {
			n++
		}
		if err := m.applyTogether(ctx, rest[:n]); err != nil {
			return applied, err
		}
		applied = append(applied, labels(rest[:n])...)
		rest = rest[n:]
	}
	return applied, nil
}

// applyTogether applies neighbours in one transaction, or one file that says
// concurrently.
func (m *migrator) applyTogether(ctx context.Context, files []migration) error {
	what := "a table that migration " + files[0].label() + " changes"
	for _, change := range files[0].indexes {
		if err := m.change(ctx, change, "all who use the table of index "+change.index); err != nil {
			return fmt.Errorf("applying migration %s: %w", files[0].label(), err)
		}
	}
	return m.inTx(ctx, what, func(tx pgx.Tx) error {
		for _, file := range files {
			do := file.apply
			if file.indexes != nil {
				do = file.record
			}
			if err := do(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

package relation

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Use is what statements do with a table.
type Use int

// Uses of a table.
const (
	Read   Use = 0          // SELECT
	Delete Use = 8          // also DELETE and SELECT … FOR UPDATE
	Write  Use = 4 + 8 + 16 // also INSERT and UPDATE
)

// Table is a table that statements of the transaction name.
type Table struct {
	Name string // schema.name, quoted where SQL needs it
	OID  uint32 // what the name must lead to; 0 is whatever it leads to
	Use  Use

	// Only says that the statements name the table with ONLY.
	Only bool

	// Columns are those that the statements name, quoted where SQL needs it. nil means all.
	Columns []string

	// View says that a view, a materialised view or a foreign table will do, if it belongs to
	// the session's login itself.
	View bool
}

// RefusedError is a table that must not be named with the rights of this login. Nothing was
// read and nothing was written.
type RefusedError struct {
	Name string
	Why  string // a sentence with the name
}

func (r *RefusedError) Error() string { return r.Why }

// settings are of a transaction that names tables of the application. An expression of a CHECK
// is otherwise read by the planner. Compiling the look takes forty times as long as the look
// itself. The last setting is of Postgres 12.20, 13.16, 14.13, 15.8, 16.4 and 17.
const settings = `
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('constraint_exclusion', 'off', true), pg_catalog.set_config('jit', 'off', true),
       (SELECT pg_catalog.set_config(s.name, CASE WHEN $1::pg_catalog.bool THEN 'view, foreign-table' ELSE '' END, true)
          FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) 'restrict_nonsystem_relation_kind')`

// Lock locks tables until the transaction ends, looks at them behind the lock, and returns their
// oids in the same order. The error is a [*RefusedError] if a name leads nowhere or elsewhere than
// it must, or if code of others would run with the rights of this login. Other errors are
// Postgres's own, 55P03 among them: how long a lock is waited for is the session's lock_timeout.
//
// The transaction has search_path pg_catalog from then on. Where no table is to be changed, it
// reads no view any more, unless the lock is of one.
func Lock(ctx context.Context, tx pgx.Tx, tables ...Table) (oids []uint32, err error) {
	if _, err := tx.Exec(ctx, settings, false); err != nil {
		return nil, fmt.Errorf("preparing the transaction: %w", err)
	}
	if err := lock(ctx, tx, tables); err != nil {
		return nil, err
	}
	found, err := look(ctx, tx, tables)
	if err != nil {
		return nil, err
	}
	closed := true // to views: a trigger that somebody trusts may read some
	for i, t := range tables {
		closed, oids = closed && t.Use == Read && found[i].isTable(), append(oids, found[i].OID)
	}
	if !closed {
		return oids, nil
	}
	if _, err := tx.Exec(ctx, settings, true); err != nil {
		return nil, fmt.Errorf("forbidding views in the transaction: %w", err)
	}
	return oids, nil
}

// lock locks tables that are only read in one statement, as Postgres does that parses it:
// whatever a relation is, without a right on it, and with nothing of it run. LOCK TABLE takes no
// materialised view.
func lock(ctx context.Context, tx pgx.Tx, tables []Table) error {
	var reads []string
	for i, t := range tables {
		if t.Use == Read {
			reads = append(reads, fmt.Sprintf("ONLY %s t%d", t.Name, i))
			continue
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE ONLY "+t.Name+" IN ROW EXCLUSIVE MODE"); err != nil {
			return failed(err, t)
		}
	}
	if len(reads) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "PREPARE headgate_lock AS SELECT FROM "+strings.Join(reads, ", ")+"; DEALLOCATE headgate_lock")
	return failed(err, tables...)
}

// failed tells a name that leads nowhere from other errors.
func failed(err error, tables ...Table) error {
	var said *pgconn.PgError
	switch gone := errors.As(err, &said) && (said.Code == "42P01" || said.Code == "3F000"); {
	case err == nil:
		return nil
	case gone && len(tables) == 1:
		return tables[0].missing()
	case gone:
		return &RefusedError{Name: tables[0].Name, Why: "a table is gone since the look at the database: " + said.Message}
	}
	return fmt.Errorf("locking %s: %w", tables[0].Name, err)
}

func (t Table) missing() error {
	what := "table"
	if t.View {
		what = "table or view"
	}
	return &RefusedError{Name: t.Name, Why: fmt.Sprintf("there is no %s %s in this database: check its name, its schema and its case", what, t.Name)}
}

// refused says why a table must not be named.
func (t Table) refused(format string, args ...any) error {
	return &RefusedError{Name: t.Name, Why: t.Name + " " + fmt.Sprintf(format, args...)}
}

// list joins the first of several sentences.
func list(all []string) string {
	const most = 5
	if len(all) > most {
		all = append(all[:most:most], fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(all, ", ")
}

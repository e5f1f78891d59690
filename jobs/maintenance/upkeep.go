package maintenance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
)

const undefinedTable = "42P01"

// upkeep runs one command over tables, and gathers what there is to say.
type upkeep struct {
	command string // "ANALYZE", "VACUUM (ANALYZE)"
	whole   bool   // over the whole database: a table may vanish meanwhile
	result  *jobs.Result

	skipped []string // sentences
	notes   []string
}

// run does the command on the tables given, or on all that the login may, and
// returns an error if one of them was skipped. Every other table is done all the
// same; result.Rows counts them as it goes.
func (u *upkeep) run(ctx context.Context, conn *pgx.Conn, tables []string) error {
	targets, err := u.targets(ctx, conn, tables)
	if err != nil {
		return err
	}
	// A login may be set to hear of errors only.
	if _, err := exec(ctx, conn, "SET client_min_messages = warning"); err != nil {
		return fmt.Errorf("%s: asking for warnings: %w", u.command, err)
	}
	for _, target := range targets {
		if err := u.runOne(ctx, conn, target.Sanitize()); err != nil {
			return err
		}
	}
	if len(u.skipped) > 0 {
		return fmt.Errorf("%s skipped %d of %s: %s: run it as their owner, or leave them out", u.command, len(u.skipped), jobs.Count(len(targets), "table"), strings.Join(u.skipped, "; "))
	}
	u.result.Output = strings.Join(append([]string{u.command + " of " + jobs.Count(u.result.Rows, "table")}, u.notes...), "; ")
	return nil
}

func (u *upkeep) runOne(ctx context.Context, conn *pgx.Conn, table string) error {
	warnings, err := exec(ctx, conn, u.command+" "+table)
	if u.whole && code(err) == undefinedTable {
		return nil // dropped since it was listed
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", u.command, table, err)
	}
	done := true
	for _, warning := range warnings {
		switch {
		case !isSkip(warning):
			u.notes = append(u.notes, table+": "+warning.Message)
		case u.whole && warning.Code == undefinedTable:
			done = false
		default:
			done = false
			u.skipped = append(u.skipped, table+" ("+warning.Message+")")
		}
	}
	if done {
		u.result.Rows++
	}
	return nil
}

// targets returns the tables to work on.
func (u *upkeep) targets(ctx context.Context, conn *pgx.Conn, tables []string) ([]pgx.Identifier, error) {
	targets := []pgx.Identifier(nil)
	for _, table := range tables {
		target, err := tableName(table)
		if err != nil {
			return nil, jobs.Cancel(fmt.Errorf("%s: %w", u.command, err))
		}
		targets = append(targets, target)
	}
	if len(tables) > 0 {
		return targets, nil
	}
	u.whole = true
	return u.wholeDatabase(ctx, conn)
}

// listTables lists the tables and materialised views of the database and whether
// the login may maintain each: because it has the rights of its owner, or of the
// database's. A partition is left to the table that it is a part of, unless
// that one belongs to somebody else. System tables are left to autovacuum.
const listTables = `
SELECT n.nspname, c.relname, pg_has_role(c.relowner, 'USAGE') OR d.mine
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class root ON root.oid = COALESCE(pg_partition_root(c.oid), c.oid)
 CROSS JOIN (SELECT pg_has_role(datdba, 'USAGE') AS mine FROM pg_database WHERE datname = current_database()) d
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND (root.oid = c.oid OR NOT (pg_has_role(root.relowner, 'USAGE') OR d.mine))
 ORDER BY 1, 2`

// wholeDatabase returns the tables that the login may maintain. That there are
// tables and all are somebody else's is an error.
func (u *upkeep) wholeDatabase(ctx context.Context, conn *pgx.Conn) ([]pgx.Identifier, error) {
	var schema, name string
	var mine bool
	targets, others := []pgx.Identifier(nil), 0
	begin := pgx.TxOptions{BeginQuery: session.BeginReadOnly + ";" + session.OwnPath}
	err := pgx.BeginTxFunc(ctx, conn, begin, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, listTables) // its error is ForEachRow's too
		_, err := pgx.ForEachRow(rows, []any{&schema, &name, &mine}, func() error {
			if mine {
				targets = append(targets, pgx.Identifier{schema, name})
			} else {
				others++
			}
			return nil
		})
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: listing the tables: %w", u.command, err)
	case len(targets) == 0 && others > 0:
		return nil, fmt.Errorf("%s: the login %q owns no table of this database, which has %d: give the database an owner login that does", u.command, conn.Config().User, others)
	case others > 0:
		u.notes = append(u.notes, jobs.CountVerb(others, "table", "belongs to others and was left out", "belong to others and were left out"))
	}
	return targets, nil
}

// code returns the SQLSTATE of an error, or "".
func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

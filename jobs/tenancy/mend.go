package tenancy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// mostRefused bounds the rows that are tried one by one because the database refuses them.
const mostRefused = 100

// mended is what became of a drift.
type mended struct {
	added, changed int64
	locked         int // rows that other sessions have locked
	refused        []refusal
	untried        int // rows that were not tried after mostRefused refusals
}

// mend adds what is missing and changes what differs.
func (p *plan) mend(ctx context.Context, tx pgx.Tx, d drift) (m mended, err error) {
	if len(d.missing) > 0 && p.unfilled != "" {
		return m, fmt.Errorf("organisations: column %s of %s must have a value in each row and has no default: give the column a default", pgx.Identifier{p.unfilled}.Sanitize(), p.table.Sanitize())
	}
	m.refused = d.refused
	if err := m.apply(ctx, tx, d.missing, p.insert); err != nil {
		return m, fmt.Errorf("organisations: adding rows to %s: %w", p.table.Sanitize(), err)
	}
	// A name that one row gives up another may take, so those that were refused are tried
	// again as long as that helps.
	for todo := d.changed; len(todo) > 0; {
		before, kept := m.changed, len(m.refused)
		if err := m.apply(ctx, tx, todo, p.update); err != nil {
			return m, fmt.Errorf("organisations: changing rows of %s: %w", p.table.Sanitize(), err)
		}
		if todo = nil; m.changed == before || len(m.refused) == kept {
			break
		}
		for _, r := range m.refused[kept:] {
			todo = append(todo, r.tenant)
		}
		m.refused = m.refused[:kept]
	}
	return m, nil
}

// apply does rows at once within a savepoint. Where the database refuses one of them, it
// does each half by itself, so that one bad row keeps no other one back.
func (m *mended) apply(ctx context.Context, tx pgx.Tx, rows []Organisation, do func(context.Context, pgx.Tx, []Organisation, *mended) error) error {
	if len(rows) == 0 {
		return nil
	}
	if len(m.refused) >= mostRefused {
		m.untried += len(rows)
		return nil
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return do(ctx, tx, rows, m) })
	switch why := refusedRow(err); {
	case why == "":
		return err
	case len(rows) == 1:
		m.refused = append(m.refused, refusal{rows[0], why})
		return nil
	}
	half := len(rows) / 2
	if err := m.apply(ctx, tx, rows[:half], do); err != nil {
		return err
	}
	return m.apply(ctx, tx, rows[half:], do)
}

// refusedRow says why a row cannot be: its data (class 22), a constraint (23), or a trigger
// (P0). Everything else is about the statement or the server.
func refusedRow(err error) string {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return ""
	}
	switch class := said.Code[:2]; {
	case class == "P0": // whose text may hold anything
		return fmt.Sprintf("a trigger refused it (%s)", said.Code)
	case (class == "22" || class == "23") && said.ConstraintName != "":
		return fmt.Sprintf("constraint %s (%s)", said.ConstraintName, said.Code)
	case class == "22" || class == "23":
		return fmt.Sprintf("%s (%s)", said.Message, said.Code)
	}
	return ""
}

// params are the columns of rows, each an array of texts.
func (p *plan) params(rows []Organisation) []any {
	columns := make([][]string, len(p.columns))
	for _, t := range rows {
		values, _ := p.values(t) // compare has left out those without
		for i, v := range values {
			columns[i] = append(columns[i], v)
		}
	}
	params := make([]any, len(columns))
	for i := range columns {
		params[i] = columns[i]
	}
	return params
}

// given is the rows of params in FROM, as k (v0, v1, ...).
func (p *plan) given() string {
	arrays, names := make([]string, len(p.columns)), make([]string, len(p.columns))
	for i := range p.columns {
		arrays[i], names[i] = fmt.Sprintf("$%d::pg_catalog.text[]", i+1), fmt.Sprintf("v%d", i)
	}
	// Of several arrays this is Postgres's own, whatever the search_path is.
	return "unnest(" + strings.Join(arrays, ", ") + ") AS k (" + strings.Join(names, ", ") + ")"
}

// value is a value of k in the type of its column.
func (p *plan) value(i int) string {
	if like := p.columns[i].like; like != "" {
		return fmt.Sprintf("k.v%d::pg_catalog.%s", i, like)
	}
	return fmt.Sprintf("k.v%d", i)
}

// insert adds rows. One that somebody else has added meanwhile stays theirs; the next run
// compares it.
func (p *plan) insert(ctx context.Context, tx pgx.Tx, rows []Organisation, m *mended) error {
	columns, values := make([]string, len(p.columns)), make([]string, len(p.columns))
	for i, c := range p.columns {
		columns[i], values[i] = c.quoted(), p.value(i)
	}
	sql := "INSERT INTO " + p.table.Sanitize() + " (" + strings.Join(columns, ", ") + ") OVERRIDING SYSTEM VALUE SELECT " + strings.Join(values, ", ") +
		" FROM " + p.given() + " ON CONFLICT (" + columns[0] + ") DO NOTHING"
	return p.asApplication(ctx, tx, func() error {
		tag, err := tx.Exec(ctx, sql, p.params(rows)...)
		m.added += tag.RowsAffected()
		return err
	})
}

// update changes rows that nobody has locked. The lock is no stronger than the change
// needs: a new name does not wait for sessions that add rows which refer to it.
func (p *plan) update(ctx context.Context, tx pgx.Tx, rows []Organisation, m *mended) error {
	table, id := p.table.Sanitize(), p.columns[0].quoted()
	lock, sets := "NO KEY UPDATE", make([]string, 0, len(p.columns))
	for i, c := range p.columns[1:] {
		sets = append(sets, c.quoted()+" = "+p.value(i+1))
		if c.field != "name" {
			lock = "UPDATE"
		}
	}
	sql := "WITH free AS MATERIALIZED (SELECT t." + id + " AS id FROM " + table + " AS t JOIN " + p.given() + " ON t." + id + same + p.value(0) + " FOR " + lock + " OF t SKIP LOCKED)," +
		" done AS (UPDATE " + table + " AS t SET " + strings.Join(sets, ", ") + " FROM " + p.given() + " WHERE t." + id + same + p.value(0) + " AND t." + id + same + "ANY (SELECT id FROM free) RETURNING 1)" +
		" SELECT (SELECT pg_catalog.count(*) FROM free), (SELECT pg_catalog.count(*) FROM done)"
	var free int
	var done int64
	err := p.asApplication(ctx, tx, func() error { return tx.QueryRow(ctx, sql, p.params(rows)...).Scan(&free, &done) })
	if err != nil {
		return err
	}
	m.locked += len(rows) - free
	m.changed += done
	return nil
}

package tenancy

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// mended is what became of a drift.
type mended struct {
	added, changed int64
	locked         []Organisation // whose rows, or what those need, other sessions have locked
	refused        []refusal
	untried        int // rows that were not tried after mostAside failures
}

// mend changes what differs and adds what is missing. Changes come first, because a new row
// may take a value that an old one gives up.
func (p *plan) mend(ctx context.Context, tx pgx.Tx, d drift) (m mended, err error) {
	if len(d.missing) > 0 && p.unfilled != "" {
		return m, fmt.Errorf("organisations: column %s of %s must have a value in each row and has no default: give the column a default", pgx.Identifier{p.unfilled}.Sanitize(), p.table.Sanitize())
	}
	m.refused = d.refused
	changes := apart[[]change]{
		do: func(ctx context.Context, tx pgx.Tx, units [][]change) error { return p.update(ctx, tx, units, &m) },
		aside: func(unit []change, why string, locked bool) {
			for _, one := range unit {
				m.aside(one.tenant, why, locked)
			}
		},
	}
	if err := changes.run(ctx, tx, p.units(d.changed)); err != nil {
		return m, fmt.Errorf("organisations: changing rows of %s: %w", p.table.Sanitize(), err)
	}
	additions := apart[Organisation]{
		do:    func(ctx context.Context, tx pgx.Tx, rows []Organisation) error { return p.insert(ctx, tx, rows, &m) },
		aside: m.aside,
	}
	if err := additions.run(ctx, tx, d.missing); err != nil {
		return m, fmt.Errorf("organisations: adding rows to %s: %w", p.table.Sanitize(), err)
	}
	m.untried = changes.untried + additions.untried
	return m, nil
}

// aside notes a tenant whose row stays as it is.
func (m *mended) aside(t Organisation, why string, locked bool) {
	if locked {
		m.locked = append(m.locked, t)
		return
	}
	m.refused = append(m.refused, refusal{t, why})
}

// want are a tenant's values.
func (p *plan) want(t Organisation) []string {
	values, _ := p.values(t) // compare has left out those without
	return values
}

// params are the columns of rows, each an array of texts.
func (p *plan) params(rows [][]string) []any {
	columns := make([][]string, len(p.columns))
	for _, values := range rows {
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

// given is the rows of params in FROM, as k (v0, v1, ..., n), counted from 1.
func (p *plan) given() string {
	arrays, names := make([]string, len(p.columns)), make([]string, len(p.columns))
	for i := range p.columns {
		arrays[i], names[i] = fmt.Sprintf("$%d::pg_catalog.text[]", i+1), fmt.Sprintf("v%d", i)
	}
	// Of several arrays this is Postgres's own, whatever the search_path is.
	return "unnest(" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS k (" + strings.Join(names, ", ") + ", n)"
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
	given := make([][]string, len(rows))
	for i, t := range rows {
		given[i] = p.want(t)
	}
	var added int64
	err := p.asApplication(ctx, tx, func() error {
		tag, err := tx.Exec(ctx, sql, p.params(given)...)
		added = tag.RowsAffected()
		return err
	})
	if err == nil {
		m.added += added
	}
	return err
}

// update changes rows that nobody has locked. The rows of a unit of several make their places
// free first, because Postgres compares a row with those that the statement has not reached.
func (p *plan) update(ctx context.Context, tx pgx.Tx, units [][]change, m *mended) error {
	var first, all [][]string
	var tenants []Organisation
	for _, unit := range units {
		for _, one := range unit {
			if all, tenants = append(all, p.want(one.tenant)), append(tenants, one.tenant); len(unit) > 1 {
				first = append(first, p.parked(one))
			}
		}
	}
	var done int64
	var held []int32
	err := p.asApplication(ctx, tx, func() (err error) {
		if len(first) > 0 {
			if _, held, err = p.set(ctx, tx, first); err == nil && len(held) > 0 {
				err = errHeld
			}
		}
		if err == nil {
			done, held, err = p.set(ctx, tx, all)
		}
		return err
	})
	if err != nil {
		return err
	}
	m.changed += done
	for _, n := range held {
		m.locked = append(m.locked, tenants[n-1])
	}
	return nil
}

// set gives rows their values, as far as nobody has locked the rows. It returns how many it
// has changed, and which of those given it has not, counted from 1. The lock is no stronger
// than the change needs: a new name does not wait for sessions that add rows which refer to it.
func (p *plan) set(ctx context.Context, tx pgx.Tx, rows [][]string) (done int64, held []int32, err error) {
	table, id := p.table.Sanitize(), p.columns[0].quoted()
	lock, sets := "NO KEY UPDATE", make([]string, 0, len(p.columns))
	for i, c := range p.columns[1:] {
		sets = append(sets, c.quoted()+" = "+p.value(i+1))
		if c.field != "name" {
			lock = "UPDATE"
		}
	}
	sql := "WITH k AS MATERIALIZED (SELECT * FROM " + p.given() + ")," +
		" free AS MATERIALIZED (SELECT t." + id + " AS id, k.n FROM " + table + " AS t JOIN k ON t." + id + same + p.value(0) + " FOR " + lock + " OF t SKIP LOCKED)," +
		" done AS (UPDATE " + table + " AS t SET " + strings.Join(sets, ", ") + " FROM k WHERE t." + id + same + p.value(0) + " AND t." + id + same + "ANY (SELECT id FROM free) RETURNING 1)" +
		" SELECT (SELECT pg_catalog.count(*) FROM done), ARRAY(SELECT k.n FROM k WHERE NOT EXISTS (SELECT FROM free f WHERE f.n" + same + "k.n) ORDER BY k.n)::pg_catalog.int4[]"
	err = tx.QueryRow(ctx, sql, p.params(rows)...).Scan(&done, &held)
	return done, held, err
}

package tenancy

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

const databaseSQL = `SELECT database_id::pg_catalog.text FROM headgate.identity`

// pageSize is the number of tenants that the catalog is asked for at a time.
const pageSize = 5_000

// placed are the tenants of the database that a transaction is in. That is the database
// whose UUID stands in its identity row, whatever its name has become since the job was
// claimed.
func placed(ctx context.Context, tx pgx.Tx, source Source) (all []Organisation, err error) {
	var database string
	if err := tx.QueryRow(ctx, databaseSQL).Scan(&database); err != nil {
		return nil, fmt.Errorf("organisations: reading whose database this is: %w", err)
	}
	for after := int64(0); ; {
		page, err := source(ctx, database, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("organisations: asking the catalog for the database's tenants: %w", err)
		}
		if all = append(all, page...); len(all) > MaxRows {
			return nil, jobs.Cancel(fmt.Errorf("organisations: the catalog has more than %d tenants in this database, which is more than one job can compare", MaxRows))
		}
		if len(page) < pageSize {
			return all, nil
		}
		after = page[len(page)-1].OrgID
	}
}

// drift is how the table differs from the catalog.
type drift struct {
	tenants, rows int
	missing       []Organisation
	changed       []change
	extra         []row
	refused       []refusal
}

// refusal is a tenant whose row cannot be as the catalog has it.
type refusal struct {
	tenant Organisation
	why    string
}

// compare holds rows against tenants. The rows were read before the tenants.
func (p *plan) compare(rows []row, tenants []Organisation) drift {
	d := drift{tenants: len(tenants), rows: len(rows)}
	byID := make(map[string]row, len(rows))
	for _, r := range rows {
		if r.null {
			d.extra = append(d.extra, r)
		} else {
			byID[r.values[0]] = r
		}
	}
	for _, t := range tenants {
		want, err := p.values(t)
		if err != nil {
			d.refused = append(d.refused, refusal{t, err.Error()})
			continue
		}
		r, there := byID[want[0]]
		delete(byID, want[0])
		switch {
		case t.Kept:
		case !there:
			d.missing = append(d.missing, t)
		case !p.same(r.values, want):
			d.changed = append(d.changed, change{t, r.values})
		}
	}
	for _, r := range rows {
		if _, left := byID[r.values[0]]; left && !r.null {
			d.extra = append(d.extra, r)
		}
	}
	return d
}

// values are what the columns of a tenant's row hold, as Postgres writes them.
func (p *plan) values(t Organisation) ([]string, error) {
	values := make([]string, len(p.columns))
	for i, c := range p.columns {
		values[i] = c.of(t)
		if c.like == "uuid" {
			id, err := uuid.Parse(values[i])
			if err != nil {
				return nil, fmt.Errorf("its org_key %.60q is no UUID, and column %s holds UUIDs", values[i], c.quoted())
			}
			values[i] = id.String()
		}
	}
	return values, nil
}

// same compares values past the id.
func (p *plan) same(have, want []string) bool {
	for i, c := range p.columns[1:] {
		if have[i+1] != c.kept(want[i+1]) {
			return false
		}
	}
	return true
}

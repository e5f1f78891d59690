package admission

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/selector"
)

// SetLimitSelected sets limits of each of the tenants that a selector selects now, as one
// operation, as SetLimit sets those of one. The Subject of limit is OfTenant or "", and its
// Name "". It returns what is set of each, by UUID of tenant; bulk may be nil. Tenants that
// come to be selected later get nothing: what holds for them too is the limit of a plan. A
// selector that selects nobody is no error. Errors are a *jobs.InputError, or that of
// bulk.Confirm.
func (c *Control) SetLimitSelected(ctx context.Context, s selector.Selector, limit Limit, bulk *catalog.SelectedOpts) (set []Limit, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		set, err = c.setLimitSelected(ctx, tx, s, limit, bulk)
		return err
	})
	return result(set, bulk.Undone(err))
}

// SetLimitSelectedTx is SetLimitSelected in the caller's transaction. It counts with the
// commit.
func (c *Control) SetLimitSelectedTx(ctx context.Context, tx pgx.Tx, s selector.Selector, limit Limit, bulk *catalog.SelectedOpts) ([]Limit, error) {
	return inSavepoint(ctx, tx, bulk, func(tx pgx.Tx) ([]Limit, error) { return c.setLimitSelected(ctx, tx, s, limit, bulk) })
}

const setManyTenantLimitsSQL = `
INSERT INTO headgate.tenant_limits AS l (tenant_id, max_running, weight, rate, rate_period)
SELECT t.id::uuid, $2, $3, $4, make_interval(secs => $5::float8) FROM unnest($1::text[]) WITH ORDINALITY AS t (id, nth) ORDER BY t.nth` + tenantLimitAgain + `
RETURNING tenant_id::text, max_running, NULL::int, weight, rate, extract(epoch FROM rate_period)::float8`

func (c *Control) setLimitSelected(ctx context.Context, tx pgx.Tx, s selector.Selector, limit Limit, bulk *catalog.SelectedOpts) ([]Limit, error) {
	switch {
	case limit.Subject != OfTenant && limit.Subject != "":
		return nil, fmt.Errorf("set limit: %w", jobs.Inputf("scope", string(limit.Subject), "a selector selects tenants: give tenant, or leave the selector out"))
	case limit.Name != "":
		return nil, fmt.Errorf("set limit: %w", jobs.Inputf("tenant", limit.Name, "name a tenant or give a selector, not both"))
	}
	limit.Subject = OfTenant
	if err := limit.check(); err != nil {
		return nil, fmt.Errorf("set limit: %w", err)
	}
	rate, period := limit.Rate.columns()
	return onSelected(ctx, tx, s, bulk, onTenants[Limit]{
		what: "setting limits of", nameOf: func(l Limit) string { return l.Name },
		do: func(tx pgx.Tx, of held) ([]Limit, error) {
			rows, _ := tx.Query(ctx, setManyTenantLimitsSQL, of.ids, limit.MaxRunning, limit.Weight, rate, period) // its error is CollectRows' too
			return pgx.CollectRows(rows, of.scanLimit)
		},
	})
}

func (h held) scanLimit(row pgx.CollectableRow) (Limit, error) {
	l := Limit{Subject: OfTenant}
	var id string
	err := l.scan(row, &id)
	l.Name = h.slugs[id]
	return l, err
}

// ClearLimitSelected takes limits of the tenants away that a selector selects now, as one
// operation: those that fields names, all if it names none. It returns what is left of each
// tenant that had one of them; that nobody had one is no error. What SetLimitSelected says of
// others holds too.
func (c *Control) ClearLimitSelected(ctx context.Context, s selector.Selector, fields LimitFields, bulk *catalog.SelectedOpts) (left []Limit, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		left, err = c.clearLimitSelected(ctx, tx, s, fields, bulk)
		return err
	})
	return result(left, bulk.Undone(err))
}

// ClearLimitSelectedTx is ClearLimitSelected in the caller's transaction.
func (c *Control) ClearLimitSelectedTx(ctx context.Context, tx pgx.Tx, s selector.Selector, fields LimitFields, bulk *catalog.SelectedOpts) ([]Limit, error) {
	return inSavepoint(ctx, tx, bulk, func(tx pgx.Tx) ([]Limit, error) { return c.clearLimitSelected(ctx, tx, s, fields, bulk) })
}

func (c *Control) clearLimitSelected(ctx context.Context, tx pgx.Tx, s selector.Selector, fields LimitFields, bulk *catalog.SelectedOpts) ([]Limit, error) {
	if fields.MaxPerTenant {
		return nil, fmt.Errorf("clear limit: %w", jobs.Inputf("per-tenant", "", "a %s has no such limit; a kind has", OfTenant))
	}
	return onSelected(ctx, tx, s, bulk, onTenants[Limit]{
		what: "clearing limits of", nameOf: func(l Limit) string { return l.Name },
		do: func(tx pgx.Tx, of held) ([]Limit, error) { return of.clearLimits(ctx, tx, fields) },
	})
}

// The rows are locked in one order, and then each of the two others sees the same of them.
const (
	lockTenantLimitsSQL = `
SELECT l.tenant_id::text FROM headgate.tenant_limits l
WHERE l.tenant_id = ANY ($1::text[]::uuid[])
  AND ($2 AND l.max_running IS NOT NULL OR $3 AND l.weight IS NOT NULL OR $4 AND l.rate IS NOT NULL)
ORDER BY l.tenant_id FOR UPDATE`

	clearTenantLimitsSQL = `
UPDATE headgate.tenant_limits l
SET max_running = CASE WHEN NOT $2 THEN l.max_running END, weight = CASE WHEN NOT $3 THEN l.weight END,
    rate = CASE WHEN NOT $4 THEN l.rate END, rate_period = CASE WHEN NOT $4 THEN l.rate_period END
WHERE l.tenant_id = ANY ($1::text[]::uuid[])
  AND (NOT $2 AND l.max_running IS NOT NULL OR NOT $3 AND l.weight IS NOT NULL OR NOT $4 AND l.rate IS NOT NULL)
RETURNING tenant_id::text, max_running, NULL::int, weight, rate, extract(epoch FROM rate_period)::float8`

	dropTenantLimitsSQL = `
DELETE FROM headgate.tenant_limits l
WHERE l.tenant_id = ANY ($1::text[]::uuid[])
  AND NOT (NOT $2 AND l.max_running IS NOT NULL OR NOT $3 AND l.weight IS NOT NULL OR NOT $4 AND l.rate IS NOT NULL)`
)

// clearLimits takes limits of tenants away, and returns what is left of each that had one of
// them, in the order of their UUIDs.
func (h held) clearLimits(ctx context.Context, tx pgx.Tx, fields LimitFields) ([]Limit, error) {
	if fields == (LimitFields{}) {
		fields = LimitFields{MaxRunning: true, Weight: true, Rate: true}
	}
	rows, _ := tx.Query(ctx, lockTenantLimitsSQL, h.ids, fields.MaxRunning, fields.Weight, fields.Rate) // its error is CollectRows' too
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	rows, _ = tx.Query(ctx, clearTenantLimitsSQL, ids, fields.MaxRunning, fields.Weight, fields.Rate)
	some, err := pgx.CollectRows(rows, h.scanLimit)
	if err != nil {
		return nil, err
	}
	if len(some) < len(ids) {
		if _, err := tx.Exec(ctx, dropTenantLimitsSQL, ids, fields.MaxRunning, fields.Weight, fields.Rate); err != nil {
			return nil, err
		}
	}
	rest := map[string]Limit{}
	for _, l := range some {
		rest[l.Name] = l
	}
	left := make([]Limit, len(ids))
	for i, id := range ids {
		left[i] = Limit{Subject: OfTenant, Name: h.slugs[id]}
		if l, ok := rest[h.slugs[id]]; ok {
			left[i] = l
		}
	}
	return left, nil
}

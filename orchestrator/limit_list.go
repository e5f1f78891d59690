package orchestrator

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// listLimitsSQL reads whole tables: people set these rows, one by one.
const listLimitsSQL = `
SELECT scope, name, max_running, max_per_tenant, weight, rate, period FROM (
    SELECT 1 AS nth, 'plan' AS scope, plan AS name, max_running, NULL::int AS max_per_tenant, weight, rate, extract(epoch FROM rate_period)::float8 AS period FROM headgate.plan_limits
    UNION ALL
    SELECT 2, 'tenant', t.slug, l.max_running, NULL, l.weight, l.rate, extract(epoch FROM l.rate_period)::float8 FROM headgate.tenant_limits l JOIN headgate.tenants t ON t.id = l.tenant_id
    UNION ALL
    SELECT 3, 'kind', kind, max_running, max_per_tenant, NULL, NULL, NULL FROM headgate.kind_limits
    UNION ALL
    SELECT 4, 'queue', queue, max_running, NULL, NULL, NULL, NULL FROM headgate.queue_limits
) l
WHERE $1 = '' OR scope = $1
ORDER BY nth, name
LIMIT 10000`

// Limits returns what is set: of plans, tenants, kinds and queues, or of one
// scope; "" means all. At most 10,000.
func (c *Client) Limits(ctx context.Context, scope Scope) ([]Limit, error) {
	rows, err := c.pool.Query(ctx, listLimitsSQL, string(scope))
	if err != nil {
		return nil, fmt.Errorf("listing limits: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Limit, err error) {
		return l, l.scan(row, &l.Scope, &l.Name)
	})
	if err != nil {
		return nil, fmt.Errorf("listing limits: %w", err)
	}
	return list, nil
}

// TenantLimit is one limit that holds for a tenant.
type TenantLimit struct {
	Tenant string `json:"tenant"` // slug
	Limit  string `json:"limit"`  // max_running, weight or rate
	Value  any    `json:"value"`  // nil means none
	From   string `json:"from"`   // "tenant", "plan NAME", or "default"
}

const tenantLimitsSQL = `
SELECT t.slug, t.plan, tl.max_running, pl.max_running, tl.weight, pl.weight,
       tl.rate, extract(epoch FROM tl.rate_period)::float8, pl.rate, extract(epoch FROM pl.rate_period)::float8
FROM headgate.tenants t
LEFT JOIN headgate.tenant_limits tl ON tl.tenant_id = t.id
LEFT JOIN headgate.plan_limits pl ON pl.plan = t.plan
WHERE t.id = $1`

// TenantLimits returns what holds for a tenant, value by value, and where it comes
// from: the tenant's own, else its plan's, else the default. What holds of kinds,
// queues and servers comes on top.
func (c *Client) TenantLimits(ctx context.Context, tenant string) ([]TenantLimit, error) {
	found, err := c.catalog.Tenant(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("listing limits: %w", err)
	}
	var slug string
	var l ownerLimits
	if err := l.scan(c.pool.QueryRow(ctx, tenantLimitsSQL, found.ID), &slug); err != nil {
		return nil, fmt.Errorf("listing the limits of tenant %s: %w", found.Slug, err)
	}
	most, mostFrom := l.maxRunning()
	weight, weightFrom := l.weight()
	rate, rateFrom := l.rate()
	list := []TenantLimit{
		{slug, "max_running", nil, mostFrom}, {slug, "weight", weight, weightFrom}, {slug, "rate", nil, rateFrom},
	}
	if most != nil {
		list[0].Value = *most
	}
	if rate != nil {
		list[2].Value = *rate
	}
	return list, nil
}

// ownerLimits are a tenant's own limits and its plan's, as worker/claim's waking
// reads them: value by value, the tenant's first.
type ownerLimits struct {
	plan        string
	own, ofPlan Limit
}

func (l *ownerLimits) scan(row pgx.Row, before ...any) error {
	var plan *string
	var ownRate, planRate *int
	var ownPeriod, planPeriod *float64
	err := row.Scan(append(before, &plan, &l.own.MaxRunning, &l.ofPlan.MaxRunning, &l.own.Weight, &l.ofPlan.Weight,
		&ownRate, &ownPeriod, &planRate, &planPeriod)...)
	if plan != nil {
		l.plan = *plan
	}
	l.own.Rate, l.ofPlan.Rate = rateOf(ownRate, ownPeriod), rateOf(planRate, planPeriod)
	return err
}

const fromDefault = "default"

func (l *ownerLimits) from(own, plan bool) string {
	switch {
	case own:
		return "tenant"
	case plan:
		return "plan " + l.plan
	}
	return fromDefault
}

func (l *ownerLimits) maxRunning() (*int, string) {
	return first(l.own.MaxRunning, l.ofPlan.MaxRunning), l.from(l.own.MaxRunning != nil, l.ofPlan.MaxRunning != nil)
}

func (l *ownerLimits) weight() (float64, string) {
	one := 1.0
	return *first(first(l.own.Weight, l.ofPlan.Weight), &one), l.from(l.own.Weight != nil, l.ofPlan.Weight != nil)
}

func (l *ownerLimits) rate() (*Rate, string) {
	return first(l.own.Rate, l.ofPlan.Rate), l.from(l.own.Rate != nil, l.ofPlan.Rate != nil)
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/selector"
)

// listLimitsSQL reads whole tables: people set these rows, one by one.
const listLimitsSQL = `
SELECT scope, name, max_running, max_per_tenant, weight, rate, period FROM (
    SELECT 1 AS nth, 'plan' AS scope, plan AS name, NULL::text AS tenant, max_running, NULL::int AS max_per_tenant, weight, rate, extract(epoch FROM rate_period)::float8 AS period FROM headgate.plan_limits
    UNION ALL
    SELECT 2, 'tenant', t.slug, t.id::text, l.max_running, NULL, l.weight, l.rate, extract(epoch FROM l.rate_period)::float8 FROM headgate.tenant_limits l JOIN headgate.tenants t ON t.id = l.tenant_id
    UNION ALL
    SELECT 3, 'kind', kind, NULL, max_running, max_per_tenant, NULL, NULL, NULL FROM headgate.kind_limits
    UNION ALL
    SELECT 4, 'queue', queue, NULL, max_running, NULL, NULL, NULL, NULL FROM headgate.queue_limits
) l
WHERE ($1 = '' OR scope = $1)
  AND (nth, name) > (coalesce(array_position('{plan,tenant,kind,queue}', $2), 0), $3)
  AND ($5::text[] IS NULL OR tenant IN (SELECT x.id FROM unnest($5::text[]) x (id)))
ORDER BY nth, name
LIMIT $4`

// Limits returns what is set: of plans, tenants, kinds and queues, or of one
// scope; "" means all. A page has 200, or up to 10,000; next is the After of the page
// behind it, or "".
func (c *Control) Limits(ctx context.Context, subject Subject, page jobs.Page) (list []Limit, next string, err error) {
	return c.listLimits(ctx, subject, nil, page)
}

// LimitsSelected returns the own limits of the tenants that a selector selects, archived ones
// included, as Limits returns those of all tenants.
func (c *Control) LimitsSelected(ctx context.Context, s selector.Selector, page jobs.Page) (list []Limit, next string, err error) {
	ids, err := c.catalog.ListedIDs(ctx, s)
	if err != nil {
		return nil, "", fmt.Errorf("listing limits: %w", err)
	}
	return c.listLimits(ctx, OfTenant, ids, page)
}

// listLimits is of all, or, if tenants is not nil, of these.
func (c *Control) listLimits(ctx context.Context, subject Subject, tenants []string, page jobs.Page) (list []Limit, next string, err error) {
	if subject != "" {
		if err := subject.among(LimitSubjects); err != nil {
			return nil, "", fmt.Errorf("listing limits: %w", err)
		}
	}
	size, err := page.Size(defaultPage, maxPage)
	if err != nil {
		return nil, "", fmt.Errorf("listing limits: %w", err)
	}
	afterSubject, afterName, ok := strings.Cut(page.After, " ")
	if page.After != "" && (!ok || !slices.Contains(LimitSubjects, Subject(afterSubject))) {
		return nil, "", fmt.Errorf("listing limits: %w", page.Unknown())
	}
	rows, err := c.pool.Query(ctx, listLimitsSQL, string(subject), afterSubject, afterName, size+1, tenants)
	if err != nil {
		return nil, "", fmt.Errorf("listing limits: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Limit, err error) {
		return l, l.scan(row, &l.Subject, &l.Name)
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing limits: %w", err)
	}
	list, next = jobs.CutPage(list, size, func(l Limit) string { return string(l.Subject) + " " + l.Name })
	return list, next, nil
}

const (
	defaultPage = 200
	maxPage     = 10_000
)

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
func (c *Control) TenantLimits(ctx context.Context, tenant string) ([]TenantLimit, error) {
	found, err := c.catalog.Tenant(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("listing limits: %w", err)
	}
	var slug string
	var l OwnerLimits
	if err := l.Scan(c.pool.QueryRow(ctx, tenantLimitsSQL, found.ID), &slug); err != nil {
		return nil, fmt.Errorf("listing the limits of tenant %s: %w", found.Slug, err)
	}
	most, mostFrom := l.MaxRunning()
	weight, weightFrom := l.weight()
	rate, rateFrom := l.Rate()
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

// OwnerLimits are a tenant's own limits and its plan's, as worker/claim's waking
// reads them: value by value, the tenant's first.
type OwnerLimits struct {
	plan        string
	own, ofPlan Limit
}

// Scan reads a row: what before names, the plan, and each limit of the tenant and of its
// plan, in the order of tenantLimitsSQL.
func (l *OwnerLimits) Scan(row pgx.Row, before ...any) error {
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

func (l *OwnerLimits) from(own, plan bool) string {
	switch {
	case own:
		return "tenant"
	case plan:
		return "plan " + l.plan
	}
	return fromDefault
}

// MaxRunning is how many jobs of the tenant may run at once, and where that comes from.
func (l *OwnerLimits) MaxRunning() (*int, string) {
	return first(l.own.MaxRunning, l.ofPlan.MaxRunning), l.from(l.own.MaxRunning != nil, l.ofPlan.MaxRunning != nil)
}

func (l *OwnerLimits) weight() (float64, string) {
	one := 1.0
	return *first(first(l.own.Weight, l.ofPlan.Weight), &one), l.from(l.own.Weight != nil, l.ofPlan.Weight != nil)
}

// Rate is how many jobs of the tenant may start, and where that comes from.
func (l *OwnerLimits) Rate() (*Rate, string) {
	return first(l.own.Rate, l.ofPlan.Rate), l.from(l.own.Rate != nil, l.ofPlan.Rate != nil)
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// Limit is what is allowed at once, or in a period. nil is no limit of that sort.
// The claim reads these rows: a change counts for the next claim of every worker,
// backlog and all, and who waits for a limit that was raised is woken.
type Limit struct {
	Subject Subject `json:"scope"`
	Name    string  `json:"name"`

	// MaxRunning is how many jobs may run at once over all worker processes: of a
	// tenant over all its queues and kinds, of a kind or queue over all tenants.
	// 1 to 100,000.
	MaxRunning *int `json:"max_running"`

	// MaxPerTenant is how many jobs of a kind may run at once for one tenant (or, of
	// a kind about databases, in one database). 1 to 100,000; kinds only.
	MaxPerTenant *int `json:"max_per_tenant"`

	// Weight is a tenant's share of the worker-seconds beside others' when there is
	// more to do than can be done. 0.001 to 1000, 1 where nothing is said; tenants
	// and plans only.
	Weight *float64 `json:"weight"`

	// Rate bounds how many jobs of a tenant start; tenants and plans only.
	Rate *Rate `json:"rate"`
}

const (
	maxRunning           = 100_000
	minWeight, maxWeight = 0.001, 1000.0
)

// ErrNoLimit: nothing is set, so that nothing can be cleared.
var ErrNoLimit = jobs.Sentinel("no_limit", "no limit is set")

func (l Limit) check() error {
	owner := l.Subject == OfTenant || l.Subject == OfPlan
	switch {
	case l.MaxPerTenant != nil && l.Subject != OfKind:
		return jobs.Inputf("per-tenant", "", "a %s has no such limit; a kind has", l.Subject)
	case (l.Weight != nil || l.Rate != nil) && !owner:
		return jobs.Inputf(fieldOf(l), "", "a %s has none; tenants and plans have", l.Subject)
	case l.MaxRunning == nil && l.MaxPerTenant == nil && l.Weight == nil && l.Rate == nil:
		return jobs.Inputf("limit", "", "nothing is given to set for %s %q", l.Subject, fit.Cut(l.Name))
	}
	for _, n := range []struct {
		field string
		value *int
	}{{"max-running", l.MaxRunning}, {"per-tenant", l.MaxPerTenant}} {
		if n.value != nil && (*n.value < 1 || *n.value > maxRunning) {
			return jobs.Inputf(n.field, fmt.Sprint(*n.value), "give 1 to %d jobs at once; to let nothing run, pause it", maxRunning)
		}
	}
	if w := l.Weight; w != nil && !(*w >= minWeight && *w <= maxWeight) { // NaN is neither
		return jobs.Inputf("weight", fmt.Sprint(*w), "give %v to %v; others' is 1", minWeight, maxWeight)
	}
	if l.Rate != nil {
		return l.Rate.check()
	}
	return nil
}

func fieldOf(l Limit) string {
	if l.Weight != nil {
		return "weight"
	}
	return "rate"
}

// What is not given stays as it is.
const (
	tenantLimitAgain = `
ON CONFLICT (tenant_id) DO UPDATE
SET max_running = coalesce(excluded.max_running, l.max_running), weight = coalesce(excluded.weight, l.weight),
    rate = coalesce(excluded.rate, l.rate), rate_period = coalesce(excluded.rate_period, l.rate_period)`

	setTenantLimitSQL = `
INSERT INTO headgate.tenant_limits AS l (tenant_id, max_running, weight, rate, rate_period)
VALUES ($1, $2, $3, $4, make_interval(secs => $5::float8))` + tenantLimitAgain + `
RETURNING max_running, NULL::int, weight, rate, extract(epoch FROM rate_period)::float8`

	setPlanLimitSQL = `
INSERT INTO headgate.plan_limits AS l (plan, max_running, weight, rate, rate_period)
VALUES ($1, $2, $3, $4, make_interval(secs => $5::float8))
ON CONFLICT (plan) DO UPDATE
SET max_running = coalesce(excluded.max_running, l.max_running), weight = coalesce(excluded.weight, l.weight),
    rate = coalesce(excluded.rate, l.rate), rate_period = coalesce(excluded.rate_period, l.rate_period)
RETURNING max_running, NULL::int, weight, rate, extract(epoch FROM rate_period)::float8`

	setKindLimitSQL = `
INSERT INTO headgate.kind_limits AS l (kind, max_running, max_per_tenant)
VALUES ($1, $2, $3)
ON CONFLICT (kind) DO UPDATE
SET max_running = coalesce(excluded.max_running, l.max_running), max_per_tenant = coalesce(excluded.max_per_tenant, l.max_per_tenant)
RETURNING max_running, max_per_tenant, NULL::float8, NULL::int, NULL::float8`

	setQueueLimitSQL = `
INSERT INTO headgate.queue_limits (queue, max_running)
VALUES ($1, $2)
ON CONFLICT (queue) DO UPDATE SET max_running = excluded.max_running
RETURNING max_running, NULL::int, NULL::float8, NULL::int, NULL::float8`
)

// SetLimit sets what is not nil in limit and leaves the rest as it is; it returns
// what is set now. A tenant's values come before its plan's. Of a plan, kind or
// queue any name is taken, for its work may come later. Errors are a
// *jobs.InputError, or match jobs.ErrUnknownTenant.
func (c *Control) SetLimit(ctx context.Context, limit Limit) (set Limit, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		set, err = c.SetLimitTx(ctx, tx, limit)
		return err
	})
	return set, err
}

// SetLimitTx is SetLimit in the caller's transaction. It counts with the commit.
func (c *Control) SetLimitTx(ctx context.Context, tx pgx.Tx, limit Limit) (Limit, error) {
	of, err := c.findHeld(ctx, tx, limit.Subject, LimitSubjects, limit.Name)
	if err == nil {
		err = limit.check()
	}
	if err != nil {
		return Limit{}, fmt.Errorf("set limit: %w", err)
	}
	if err := access.Say(ctx, tx, "", ""); err != nil {
		return Limit{}, fmt.Errorf("set the limit of %s %s: %w", limit.Subject, of.name, err)
	}
	rate, period := limit.Rate.columns()
	var row pgx.Row
	switch limit.Subject {
	case OfTenant:
		row = tx.QueryRow(ctx, setTenantLimitSQL, of.key, limit.MaxRunning, limit.Weight, rate, period)
	case OfPlan:
		row = tx.QueryRow(ctx, setPlanLimitSQL, of.key, limit.MaxRunning, limit.Weight, rate, period)
	case OfKind:
		row = tx.QueryRow(ctx, setKindLimitSQL, of.key, limit.MaxRunning, limit.MaxPerTenant)
	default:
		row = tx.QueryRow(ctx, setQueueLimitSQL, of.key, limit.MaxRunning)
	}
	set := Limit{Subject: limit.Subject, Name: of.name}
	if err := set.scan(row); err != nil {
		return Limit{}, fmt.Errorf("set the limit of %s %s: %w", limit.Subject, of.name, err)
	}
	return set, nil
}

// scan reads max_running, max_per_tenant, weight, rate and its period in seconds.
func (l *Limit) scan(row pgx.Row, before ...any) error {
	var rate *int
	var period *float64
	if err := row.Scan(append(before, &l.MaxRunning, &l.MaxPerTenant, &l.Weight, &rate, &period)...); err != nil {
		return err
	}
	l.Rate = rateOf(rate, period)
	return nil
}

// columns are a rate as the rows have it, its period in seconds.
func (r *Rate) columns() (starts *int, period *float64) {
	if r == nil {
		return nil, nil
	}
	seconds := r.Per.Seconds()
	return &r.Jobs, &seconds
}

func rateOf(starts *int, period *float64) *Rate {
	if starts == nil || period == nil {
		return nil
	}
	return &Rate{*starts, time.Duration(*period * float64(time.Second)).Round(time.Millisecond)}
}

// LimitFields says which limits are meant; none set means all.
type LimitFields struct{ MaxRunning, MaxPerTenant, Weight, Rate bool }

const (
	clearPlanLimitSQL = `
DELETE FROM headgate.plan_limits WHERE plan = $1
RETURNING max_running, NULL::int, weight, rate, extract(epoch FROM rate_period)::float8`

	clearKindLimitSQL = `
DELETE FROM headgate.kind_limits WHERE kind = $1
RETURNING max_running, max_per_tenant, NULL::float8, NULL::int, NULL::float8`

	clearQueueLimitSQL = `
DELETE FROM headgate.queue_limits WHERE queue = $1
RETURNING max_running, NULL::int, NULL::float8, NULL::int, NULL::float8`
)

// lockLimitSQL lets those who clear one limit take turns: the row that one of them
// puts back is not the row that the other waits for.
const lockLimitSQL = `SELECT pg_advisory_xact_lock(hashtextextended('headgate.limit ' || $1::text || ' ' || $2::text, 0))`

// ClearLimit takes limits away: those that fields names, all if it names none. It
// returns what is left. The error matches ErrNoLimit if none of them was set.
func (c *Control) ClearLimit(ctx context.Context, subject Subject, name string, fields LimitFields) (left Limit, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		left, err = c.ClearLimitTx(ctx, tx, subject, name, fields)
		return err
	})
	return left, err
}

// ClearLimitTx is ClearLimit in the caller's transaction.
func (c *Control) ClearLimitTx(ctx context.Context, tx pgx.Tx, subject Subject, name string, fields LimitFields) (Limit, error) {
	of, err := c.find(ctx, tx, subject, LimitSubjects, name)
	if err != nil {
		return Limit{}, fmt.Errorf("clear limit: %w", err)
	}
	if err := access.Say(ctx, tx, "", ""); err != nil {
		return Limit{}, fmt.Errorf("clear the limit of %s %s: %w", subject, of.name, err)
	}
	if subject == OfTenant {
		return clearTenantLimit(ctx, tx, of, fields)
	}
	if _, err := tx.Exec(ctx, lockLimitSQL, string(subject), of.key); err != nil {
		return Limit{}, fmt.Errorf("clear the limit of %s %s: %w", subject, of.name, err)
	}
	sql := map[Subject]string{OfPlan: clearPlanLimitSQL, OfKind: clearKindLimitSQL, OfQueue: clearQueueLimitSQL}[subject]
	left := Limit{Subject: subject, Name: of.name}
	err = left.scan(tx.QueryRow(ctx, sql, of.key))
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Limit{}, fmt.Errorf("clear the limit of %s %s: %w", subject, of.name, err)
	}
	some := err == nil && left.clear(fields)
	if left != (Limit{Subject: subject, Name: of.name}) { // the row went, the rest of it comes back
		if left, err = c.SetLimitTx(ctx, tx, left); err != nil {
			return Limit{}, err
		}
	}
	if !some {
		return Limit{}, fmt.Errorf("%w for %s %q", ErrNoLimit, subject, fit.Cut(of.name))
	}
	return left, nil
}

func clearTenantLimit(ctx context.Context, tx pgx.Tx, of target, fields LimitFields) (Limit, error) {
	left, err := held{[]string{of.key}, map[string]string{of.key: of.name}}.clearLimits(ctx, tx, fields)
	switch {
	case err != nil:
		return Limit{}, fmt.Errorf("clear the limit of tenant %s: %w", of.name, err)
	case len(left) == 0:
		return Limit{}, fmt.Errorf("%w for %s %q", ErrNoLimit, OfTenant, fit.Cut(of.name))
	}
	return left[0], nil
}

// clear takes values away and says whether there were any.
func (l *Limit) clear(fields LimitFields) (some bool) {
	all := fields == LimitFields{}
	if (all || fields.MaxRunning) && l.MaxRunning != nil {
		l.MaxRunning, some = nil, true
	}
	if (all || fields.MaxPerTenant) && l.MaxPerTenant != nil {
		l.MaxPerTenant, some = nil, true
	}
	if (all || fields.Weight) && l.Weight != nil {
		l.Weight, some = nil, true
	}
	if (all || fields.Rate) && l.Rate != nil {
		l.Rate, some = nil, true
	}
	return some
}

package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// ErrUnknownPlan: the catalog has no plan of this name.
var ErrUnknownPlan = jobs.Sentinel("unknown_plan", "unknown plan")

// Plan is what its tenants have where they have no value of their own. The plan "" is that
// of tenants that have none.
type Plan struct {
	Name     string                     `json:"name"`
	Note     string                     `json:"note"` // for people, up to 200 characters
	Features map[string]json.RawMessage `json:"features"`
	Kinds    []string                   `json:"kinds"`   // what its tenants may have jobs of; null: all
	Tenants  int                        `json:"tenants"` // that are on it, but for removed ones

	MaxRunning *int     `json:"max_running"` // of each of its tenants, as admission.Limit has them
	Weight     *float64 `json:"weight"`
	Rate       *string  `json:"rate"`
}

// PlanChange says what of a plan is to change; what is nil stays.
type PlanChange struct {
	Note     *string
	Features map[string]*string // nil takes a value out; see TenantChange
	Kinds    *[]string          // nil in it: all kinds
}

// Plans are the pricing plans that the catalog knows. It is safe for concurrent use.
type Plans struct{ c *Catalog }

// Plans returns the catalog's plans.
func (c *Catalog) Plans() Plans { return Plans{c} }

// Set adds a plan or changes one. All tenants of the plan that have no value of their own
// follow at once. Errors match ErrUnknownFeature or are a *jobs.InputError.
func (p Plans) Set(ctx context.Context, name string, change PlanChange) (Plan, error) {
	return p.set(ctx, p.c.pool, name, change)
}

// SetTx is Set in the caller's transaction.
func (p Plans) SetTx(ctx context.Context, tx pgx.Tx, name string, change PlanChange) (Plan, error) {
	return p.set(ctx, tx, name, change)
}

const planSetSQL = `
INSERT INTO headgate.plans AS p (name, note, features, kinds)
VALUES ($1, coalesce($2, ''), $4, $6)
ON CONFLICT (name) DO UPDATE
SET note = coalesce($2, p.note), features = (p.features - $3::text[]) || excluded.features, kinds = CASE WHEN $5 THEN excluded.kinds ELSE p.kinds END`

func (p Plans) set(ctx context.Context, db beginner, name string, change PlanChange) (Plan, error) {
	plan, err := within(ctx, db, func(tx pgx.Tx) (Plan, error) {
		if err := change.check(name); err != nil {
			return Plan{}, err
		}
		out, in := split(change.Features)
		features, err := parseFeatures(ctx, tx, in)
		if err != nil {
			return Plan{}, err
		}
		var kinds []string
		if change.Kinds != nil {
			kinds = *change.Kinds
		}
		if _, err := tx.Exec(ctx, planSetSQL, name, change.Note, out, features, change.Kinds != nil, kinds); err != nil {
			return Plan{}, err
		}
		return plan(ctx, tx, name)
	})
	if err != nil {
		return Plan{}, fmt.Errorf("set plan %s: %w", quote(name), err)
	}
	p.c.memory.dropAll()
	return plan, nil
}

func (ch PlanChange) check(name string) error {
	if err := CheckPlan("plan", name); err != nil {
		return err
	}
	if ch.Note != nil {
		if err := jobs.CheckText("note", *ch.Note, maxText); err != nil {
			return err
		}
	}
	if ch.Kinds != nil {
		return checkKinds(*ch.Kinds)
	}
	return nil
}

const maxKinds = 1000

// checkKinds holds a list of kinds that may run to names that kinds can have.
func checkKinds(kinds []string) error {
	if len(kinds) > maxKinds {
		return jobs.Inputf("kinds", "", "%s are too many; at most %d are allowed", jobs.Count(len(kinds), "kind"), maxKinds)
	}
	for _, kind := range kinds {
		if err := jobs.CheckKind(kind); err != nil {
			return jobs.AsInputError("kinds", err)
		}
	}
	return nil
}

const planColumns = `
SELECT p.name, p.note, p.features, p.kinds, (SELECT count(*) FROM headgate.tenants t WHERE t.plan = p.name AND t.status <> 'removed'),
       l.max_running, l.weight, l.rate || '/' || extract(epoch FROM l.rate_period)::int || 's'
FROM headgate.plans p
LEFT JOIN headgate.plan_limits l ON l.plan = p.name
`

// planOf reads a plan. Its rate is as admission.Rate writes it: 100/1h0m0s.
func planOf(row pgx.CollectableRow) (Plan, error) {
	plan, err := pgx.RowToStructByPos[Plan](row)
	if err != nil || plan.Rate == nil {
		return plan, err
	}
	number, seconds, _ := strings.Cut(*plan.Rate, "/")
	period, err := time.ParseDuration(seconds)
	if err != nil {
		return plan, err
	}
	*plan.Rate = number + "/" + period.String()
	return plan, nil
}

const planSQL = planColumns + `WHERE p.name = $1`

func plan(ctx context.Context, db querier, name string) (Plan, error) {
	rows, _ := db.Query(ctx, planSQL, name) // its error is CollectExactlyOneRow's too
	found, err := pgx.CollectExactlyOneRow(rows, planOf)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w %s: `headgate plan list` shows them", ErrUnknownPlan, quote(name))
	}
	return found, err
}

// Get returns a plan. The error matches ErrUnknownPlan.
func (p Plans) Get(ctx context.Context, name string) (Plan, error) { return plan(ctx, p.c.pool, name) }

const plansSQL = planColumns + `WHERE p.name > $1 OR $1 = '' AND p.name = '' ORDER BY p.name LIMIT $2`

// List returns plans by name, that of tenants without a plan first, 200 or up to 10,000 a
// page, and the After of the next page ("" if nothing follows).
func (p Plans) List(ctx context.Context, page jobs.Page) (plans []Plan, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list plans: %w", err)
	}
	rows, _ := p.c.pool.Query(ctx, plansSQL, page.After, limit+1) // its error is CollectRows' too
	if plans, err = pgx.CollectRows(rows, planOf); err != nil {
		return nil, "", fmt.Errorf("list plans: %w", err)
	}
	plans, next = jobs.CutPage(plans, limit, func(p Plan) string { return p.Name })
	return plans, next, nil
}

// Remove takes a plan out of the catalog that no tenant is on and no limit is for. Errors
// match ErrUnknownPlan and ErrReferred.
func (p Plans) Remove(ctx context.Context, name string) error { return p.remove(ctx, p.c.pool, name) }

// RemoveTx is Remove in the caller's transaction.
func (p Plans) RemoveTx(ctx context.Context, tx pgx.Tx, name string) error {
	return p.remove(ctx, tx, name)
}

const planDeleteSQL = `DELETE FROM headgate.plans WHERE name = $1`

func (p Plans) remove(ctx context.Context, db beginner, name string) error {
	_, err := within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		found, err := plan(ctx, tx, name)
		if err != nil {
			return none, err
		}
		if name == "" {
			return none, jobs.Inputf("plan", "", "the plan of tenants that have none stays: take its values out with `headgate plan set`")
		}
		_, err = tx.Exec(ctx, planDeleteSQL, name)
		switch constraint, _ := constraintOf(err); constraint {
		case "tenants_plan":
			return none, inUsef(err, "it has tenants (%d): `headgate tenant set … --plan OTHER` gives tenants another", found.Tenants)
		case "plan_limits_plan":
			return none, inUsef(err, "it has a limit: `headgate limit clear plan %s` takes it out", jobs.ShellWord(name))
		}
		return none, err
	})
	if err != nil {
		return fmt.Errorf("remove plan %s: %w", quote(name), err)
	}
	p.c.memory.dropAll()
	return nil
}

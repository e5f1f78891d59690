package schedule

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Drift is one tenant's schedule that is not as its file says.
type Drift struct {
	Schedule string `json:"schedule"`
	Tenant   string `json:"tenant"`
	Is       string `json:"is"` // how it differs
}

const selectDrift = `
SELECT name, slug, state, note, coalesce(changed, '[]') FROM headgate.schedule_drift($1) ORDER BY name, slug LIMIT 1000`

func readDrift(ctx context.Context, tx pgx.Tx, file string) ([]Drift, error) {
	rows, err := tx.Query(ctx, selectDrift, file)
	if err != nil {
		return nil, fmt.Errorf("looking for drift: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Drift, err error) {
		var state, note string
		var changed []changedField
		if err := row.Scan(&d.Schedule, &d.Tenant, &state, &note, &changed); err != nil {
			return d, fmt.Errorf("looking for drift: %w", err)
		}
		var parts []string
		if state != "changed" {
			parts = append(parts, map[string]string{"missing": "missing", "own": "a schedule of the tenant's own", "error": "in error", "paused": "paused"}[state])
		}
		if note != "" {
			parts[0] += ": " + note
		}
		for i, ch := range changed {
			parts = append(parts, ch.String())
			if i == 0 {
				parts[len(parts)-1] = "changed: " + ch.String()
			}
		}
		d.Is = strings.Join(parts, "; ")
		return d, nil
	})
}

// countWrong counts what applying puts right: not what is a tenant's own, and not what
// merely a person has paused, or is in error.
const countWrong = `
SELECT name, count(*) FROM headgate.schedule_drift($1) WHERE state = 'missing' OR changed <> '[]' GROUP BY name ORDER BY name`

// withRepairs adds to the steps of a plan those for templates of which only rows of tenants
// are otherwise than they should be: somebody has changed them by SQL.
func withRepairs(ctx context.Context, tx pgx.Tx, file string, steps []PlanStep) ([]PlanStep, error) {
	planned := map[string]bool{}
	for _, s := range steps {
		planned[s.Name] = planned[s.Name] || s.What == "schedule"
	}
	rows, err := tx.Query(ctx, countWrong, file)
	if err != nil {
		return nil, fmt.Errorf("looking for drift: %w", err)
	}
	var name string
	var wrong int
	_, err = pgx.ForEachRow(rows, []any{&name, &wrong}, func() error {
		if !planned[name] {
			steps = append(steps, PlanStep{
				Action: "change", What: "schedule", Name: name, Before: wrong, Tenants: wrong, repair: true,
				Fields: []string{fmt.Sprintf("rows of %s: put right", jobs.Count(wrong, "tenant"))}, Warnings: []string{},
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for drift: %w", err)
	}
	return steps, nil
}

const spoilRows = `
UPDATE headgate.schedules SET fleet_version = 0
WHERE id IN (SELECT schedule_id FROM headgate.schedule_drift($1) WHERE changed <> '[]' AND name = ANY ($2))`

const syncNamed = `SELECT headgate.sync_schedules(ARRAY(SELECT id FROM headgate.fleets WHERE name = ANY ($1)), NULL)`

// repair makes those rows of templates anew that are otherwise than they should be.
func repair(ctx context.Context, tx pgx.Tx, file string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, spoilRows, file, names); err != nil {
		return fmt.Errorf("putting rows of schedules right: %w", err)
	}
	if _, err := tx.Exec(ctx, syncNamed, names); err != nil {
		return fmt.Errorf("putting rows of schedules right: %w", err)
	}
	return nil
}

// Drift returns what is in the database otherwise than the file says: the steps
// that applying it would take, and the tenants' schedules that were changed, paused
// or broken since, a thousand at most.
func (f *Files) Drift(ctx context.Context, file File) (steps []PlanStep, rows []Drift, err error) {
	err = central.Read(ctx, f.pool, func(tx pgx.Tx) error {
		plan, err := f.plan(ctx, tx, &file)
		if err != nil {
			return err
		}
		steps = plan.steps
		rows, err = readDrift(ctx, tx, file.Name)
		return err
	})
	return steps, rows, err
}

package schedule

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Apply makes the database what a file says, in one transaction, and
// returns what it did; a second time that is nothing. What the file had before and
// has no more is deleted; what is not of this file is left alone.
func (f *Files) Apply(ctx context.Context, file File) (steps []PlanStep, err error) {
	err = central.Write(ctx, f.pool, func(tx pgx.Tx) error {
		steps, err = f.ApplyTx(ctx, tx, file)
		return err
	})
	return steps, err
}

// ApplyTx is Apply inside the caller's transaction.
func (f *Files) ApplyTx(ctx context.Context, tx pgx.Tx, file File) (steps []PlanStep, err error) {
	if err := takeTemplates(ctx, tx); err != nil {
		return nil, fmt.Errorf("applying schedules: %w", err)
	}
	err = whole(ctx, tx, false, func(tx pgx.Tx) error {
		steps, err = f.apply(ctx, tx, &file)
		return err
	})
	if err != nil {
		return nil, err
	}
	return steps, nil
}

func (f *Files) apply(ctx context.Context, tx pgx.Tx, file *File) ([]PlanStep, error) {
	plan, err := f.plan(ctx, tx, file)
	if err != nil {
		return nil, err
	}
	if plan.steps, err = withRepairs(ctx, tx, file.Name, plan.steps); err != nil {
		return nil, err
	}
	if err := f.write(ctx, tx, file, &plan); err != nil {
		return nil, err
	}
	return plan.steps, expect(file.ExpectSchedules, Touched(plan.steps))
}

// write carries a plan out, whatever its size in a few statements: calendars that come,
// schedules, and then calendars that go, because no schedule names them any more.
func (f *Files) write(ctx context.Context, tx pgx.Tx, file *File, plan *filePlan) error {
	named := map[string][]string{}
	for _, step := range plan.steps {
		switch what := step.Action + " " + step.What; {
		case step.repair:
			named["repair"] = append(named["repair"], step.Name)
		case what == "add calendar" || what == "change calendar":
			if err := storeCalendar(ctx, tx, step.Name, file.Calendars[step.Name], file.Name); err != nil {
				return err
			}
		default:
			named[what] = append(named[what], step.Name)
		}
	}
	if err := holdCalendars(ctx, tx, plan.calendars); err != nil {
		return fmt.Errorf("applying schedules: %w", err)
	}
	if err := deleteTemplates(ctx, tx, named["delete schedule"], file.Actor); err != nil {
		return err
	}
	if err := f.storePlanned(ctx, tx, file, plan); err != nil {
		return err
	}
	if err := repair(ctx, tx, file.Name, named["repair"]); err != nil {
		return err
	}
	for _, name := range named["delete calendar"] {
		if err := dropCalendar(ctx, tx, name, file.Name); err != nil {
			return err
		}
	}
	return nil
}

// storePlanned writes the templates that a plan adds or changes, and puts into its steps
// how many tenants have them.
func (f *Files) storePlanned(ctx context.Context, tx pgx.Tx, file *File, plan *filePlan) error {
	if len(plan.documents) == 0 {
		return nil
	}
	if err := access.Say(ctx, tx, file.Actor, ""); err != nil {
		return fmt.Errorf("applying schedules: %w", err)
	}
	if err := f.storeTemplates(ctx, tx, plan.documents); err != nil {
		return fmt.Errorf("applying schedules: %w", err)
	}
	names := make([]string, len(plan.documents))
	for i, d := range plan.documents {
		names[i] = d.name
	}
	templates, err := readTemplates(ctx, tx, names)
	if err != nil {
		return err
	}
	tenants := map[string]int{}
	for _, f := range templates {
		tenants[f.Name] = f.Tenants
	}
	for i := range plan.steps {
		if step := &plan.steps[i]; step.What == "schedule" && step.Action != "delete" && !step.repair {
			step.Tenants = tenants[step.Name]
		}
	}
	return nil
}

const deleteTemplatesSQL = `DELETE FROM headgate.fleets WHERE name = ANY ($1)`

// deleteTemplates removes templates and the schedules that tenants have of them.
func deleteTemplates(ctx context.Context, tx pgx.Tx, names []string, actor string) error {
	if len(names) == 0 {
		return nil
	}
	if err := access.Say(ctx, tx, actor, ""); err != nil {
		return fmt.Errorf("deleting templates: %w", err)
	}
	if _, err := tx.Exec(ctx, deleteTemplatesSQL, names); err != nil {
		return fmt.Errorf("deleting templates: %w", err)
	}
	return nil
}

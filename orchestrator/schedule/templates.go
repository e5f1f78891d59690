package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Template is a schedule for all tenants of a selector. Each has a Schedule of its
// own of that name, in its own time zone unless Zone is given, with its own next times
// and its own answers; a tenant that is added or changed has its schedules within
// seconds, from the scheduler. A tenant's own schedule of the same name is left alone. With a
// Brand it is for the tenants that have the brand: others get their schedules with the brand.
type Template struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
	Select selector.Selector `json:"select"`
	Spec
	Overrides []Override `json:"overrides"`
	Version   int        `json:"version"`
	ManagedBy string     `json:"managed_by,omitempty"` // the file that it comes from
	Tenants   int        `json:"tenants"`              // that have it

	// Lacking are the selected tenants that have no schedule of it, because they lack its
	// brand. nil if there are none, and of List.
	Lacking *Lacking `json:"lacking_brand,omitempty"`

	// Touched is how many tenants' schedules a Set or an Edit has changed, or would: those
	// that had the template's or have it then, whichever are more.
	Touched int `json:"-"`
}

// Override is what is different for one tenant. What is empty is not.
type Override struct {
	Tenant string          `json:"tenant"`
	Cron   string          `json:"cron,omitempty"`
	Zone   string          `json:"zone,omitempty"`
	Args   json.RawMessage `json:"args,omitempty"`
}

// TemplateParams is what Set needs.
type TemplateParams struct {
	Name      string
	Select    selector.Selector
	Args      jobs.Args // the kind and its arguments
	Spec                // all else; Kind and Args are those of Args
	Overrides []Override
	ManagedBy string
	Actor     string
	Note      string // why, for the record of changes

	// ExpectTenants is how many tenants' schedules are touched (Template.Touched). If they
	// are another number, nothing is changed, and the error is a *catalog.ExpectationError
	// that says that number. nil means any.
	ExpectTenants *int

	DryRun bool // only say what it would be: nothing is changed

	// New makes a template of that name that is there already an error, which matches
	// ErrExists.
	New bool
}

// Set stores a template under its name, anew or instead of the one that has it,
// and makes, changes and removes the schedules of its tenants, all in one
// transaction. Their next times are computed within a second.
func (t *Templates) Set(ctx context.Context, params TemplateParams) (template Template, err error) {
	err = central.Write(ctx, t.pool, func(tx pgx.Tx) error {
		template, err = t.SetTx(ctx, tx, params)
		return err
	})
	return template, err
}

// SetTx is Set inside the caller's transaction.
func (t *Templates) SetTx(ctx context.Context, tx pgx.Tx, params TemplateParams) (template Template, err error) {
	err = whole(ctx, tx, params.DryRun, func(tx pgx.Tx) error {
		template, err = t.set(ctx, tx, params)
		return err
	})
	return template, err
}

func (t *Templates) set(ctx context.Context, tx pgx.Tx, params TemplateParams) (Template, error) {
	if err := takeTemplates(ctx, tx); err != nil {
		return Template{}, fmt.Errorf("template %s: %w", fit.Cut(params.Name), err)
	}
	fault.Point(fault.TemplateLocked)
	if err := t.mayStore(ctx, tx, &params); err != nil {
		return Template{}, err
	}
	if err := holdCalendars(ctx, tx, params.Policy.Calendars); err != nil {
		return Template{}, fmt.Errorf("template %s: %w", params.Name, err)
	}
	calendars, err := readCalendars(ctx, tx, list(params.Policy.Calendars))
	if err != nil {
		return Template{}, fmt.Errorf("template %s: %w", params.Name, err)
	}
	documents, err := t.documents(ctx, tx, []TemplateParams{params}, calendars)
	if err != nil {
		return Template{}, fmt.Errorf("template: %w", err)
	}
	before, err := readTemplates(ctx, tx, []string{params.Name})
	if err != nil {
		return Template{}, err
	}
	if err := access.Say(ctx, tx, params.Actor, params.Note); err != nil {
		return Template{}, fmt.Errorf("template %s: %w", params.Name, err)
	}
	if err := t.storeTemplates(ctx, tx, documents); err != nil {
		return Template{}, fmt.Errorf("template %s: %w", params.Name, err)
	}
	fault.Point(fault.TemplateSet)
	template, err := t.template(ctx, tx, params.Name)
	if err != nil {
		return Template{}, err
	}
	template.Touched = template.Tenants
	if len(before) > 0 {
		template.Touched = max(template.Touched, before[0].Tenants)
	}
	if err := expect(params.ExpectTenants, template.Touched); err != nil {
		return Template{}, err
	}
	return template, nil
}

const selectTemplateOwner = `SELECT managed_by FROM headgate.fleets WHERE name = $1`

// mayStore refuses a template whose name is taken: where a new one is wanted, or by a file.
func (t *Templates) mayStore(ctx context.Context, tx pgx.Tx, params *TemplateParams) error {
	var file string
	err := tx.QueryRow(ctx, selectTemplateOwner, params.Name).Scan(&file)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("reading template %s: %w", fit.Cut(params.Name), err)
	case params.New:
		return fmt.Errorf("%w: a template is named %q; edit it, or choose another name", ErrExists, params.Name)
	case file == "" && params.ManagedBy != "":
		return fmt.Errorf("%w: template %s does not come from the file %s", ErrConflict, params.Name, params.ManagedBy)
	case file != params.ManagedBy:
		return fmt.Errorf("%w: template %s comes from the file %s: change it there, and apply that", ErrConflict, params.Name, file)
	}
	return nil
}

func (t *Templates) template(ctx context.Context, tx pgx.Tx, name string) (Template, error) {
	found, err := readTemplates(ctx, tx, []string{name})
	if err != nil {
		return Template{}, err
	}
	if len(found) == 0 {
		return Template{}, fmt.Errorf("%w: no template is named %q; `headgate schedule list --templates` shows them", ErrUnknown, fit.Cut(name))
	}
	return found[0], readLacking(ctx, tx, &found[0])
}

// List returns all templates by name.
func (t *Templates) List(ctx context.Context) (templates []Template, err error) {
	err = central.Read(ctx, t.pool, func(tx pgx.Tx) error {
		templates, err = readTemplates(ctx, tx, nil)
		return err
	})
	return templates, err
}

// Get returns one template. The error matches ErrUnknown.
func (t *Templates) Get(ctx context.Context, name string) (template Template, err error) {
	err = central.Read(ctx, t.pool, func(tx pgx.Tx) error {
		template, err = t.template(ctx, tx, name)
		return err
	})
	return template, err
}

// TemplateEdit is a change of a template. A nil Select leaves the selector as it is.
type TemplateEdit struct {
	Edit
	Select        *selector.Selector
	ExpectTenants *int // as in TemplateParams
	DryRun        bool
}

// Edit changes a template and the schedules of its tenants. The error matches
// ErrUnknown, or ErrConflict where it has another version by now or
// comes from a file, which says what it is.
func (t *Templates) Edit(ctx context.Context, name string, edit TemplateEdit) (template Template, err error) {
	err = central.Write(ctx, t.pool, func(tx pgx.Tx) error {
		template, err = t.EditTx(ctx, tx, name, edit)
		return err
	})
	return template, err
}

// EditTx is Edit inside the caller's transaction.
func (t *Templates) EditTx(ctx context.Context, tx pgx.Tx, name string, edit TemplateEdit) (Template, error) {
	if err := takeTemplates(ctx, tx); err != nil {
		return Template{}, fmt.Errorf("changing template %s: %w", fit.Cut(name), err)
	}
	f, err := t.template(ctx, tx, name)
	switch {
	case err != nil:
		return Template{}, err
	case f.ManagedBy != "":
		return Template{}, fmt.Errorf("%w: template %s comes from the file %s: change it there, and apply that", ErrConflict, name, f.ManagedBy)
	case edit.Version != 0 && edit.Version != f.Version:
		return Template{}, fmt.Errorf("%w: template %s has version %d, not %d: look at it again before you change it", ErrConflict, name, f.Version, edit.Version)
	}
	params := TemplateParams{Name: name, Select: f.Select, Overrides: f.Overrides, Actor: edit.Actor, Note: edit.Note, ExpectTenants: edit.ExpectTenants, DryRun: edit.DryRun}
	if params.Spec, params.Args, err = edit.on(f.Spec); err != nil {
		return Template{}, fmt.Errorf("template %s: %w", name, err)
	}
	if edit.Select != nil {
		params.Select = *edit.Select
	}
	return t.SetTx(ctx, tx, params)
}

// TemplateDeletion says who removes a template, and of how many tenants.
type TemplateDeletion struct {
	Actor         string
	ExpectTenants *int // as in TemplateParams
}

// Delete removes a template and the schedules that its tenants have of it.
func (t *Templates) Delete(ctx context.Context, name string, deletion TemplateDeletion) error {
	return central.Write(ctx, t.pool, func(tx pgx.Tx) error { return t.DeleteTx(ctx, tx, name, deletion) })
}

// DeleteTx is Delete inside the caller's transaction.
func (t *Templates) DeleteTx(ctx context.Context, tx pgx.Tx, name string, deletion TemplateDeletion) error {
	if err := takeTemplates(ctx, tx); err != nil {
		return fmt.Errorf("deleting template %s: %w", fit.Cut(name), err)
	}
	there, err := t.template(ctx, tx, name)
	if err == nil {
		err = expect(deletion.ExpectTenants, there.Tenants)
	}
	if err != nil {
		return err
	}
	return deleteTemplates(ctx, tx, []string{name}, deletion.Actor)
}

// expect refuses a change that touches another number of tenants' schedules than the
// caller expects.
func expect(expected *int, is int) error {
	if expected == nil || *expected == is {
		return nil
	}
	return &catalog.ExpectationError{Expected: *expected, Tenants: is}
}

// whole does all of something in a transaction, or nothing if it fails or is only a dry
// run.
func whole(ctx context.Context, tx pgx.Tx, dry bool, do func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if err := do(tx); err != nil || !dry {
			return err
		}
		return central.Undo(ctx, tx)
	})
	return central.Undone(err)
}

package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/selector"
)

// File is what a file of schedules says: templates and exclusion calendars,
// under the name that the file has for itself.
type File struct {
	Name      string
	Calendars map[string][]calendar.DayRange
	Templates []TemplateParams
	Actor     string

	// Adopt makes schedules and calendars the file's that are there under its names and
	// come from another file, or were made by a person. Without it those are an error,
	// which matches ErrConflict.
	Adopt bool

	// ExpectSchedules is how many schedules of tenants are made, changed or deleted:
	// Touched of the steps. If they are another number, nothing is changed, and the error
	// is a *catalog.ExpectationError that says that number. nil means any.
	ExpectSchedules *int
}

// PlanStep is one thing that applying a file does.
type PlanStep struct {
	Action   string   `json:"action"` // add, change or delete
	What     string   `json:"what"`   // schedule or calendar
	Name     string   `json:"name"`
	Fields   []string `json:"fields"`         // what changes, "cron: @daily -> @hourly"
	Select   string   `json:"select"`         // of a schedule
	Before   int      `json:"tenants_before"` // that have it now
	Tenants  int      `json:"tenants"`        // that have it then
	Warnings []string `json:"warnings"`       // what is probably not meant

	repair bool // only rows of tenants differ
}

// Touched is how many schedules of tenants steps make, change or delete.
func Touched(steps []PlanStep) (n int) {
	for _, step := range steps {
		n += max(step.Before, step.Tenants)
	}
	return n
}

// filePlan is what a file asks for, checked, and the steps to it.
type filePlan struct {
	steps     []PlanStep
	documents []templateDocument // of the templates that are added or changed
	calendars []string           // that schedules of the file name
}

// Plan says what Apply would do. Nothing is written or locked.
func (f *Files) Plan(ctx context.Context, file File) (steps []PlanStep, err error) {
	err = central.Read(ctx, f.pool, func(tx pgx.Tx) error {
		plan, err := f.plan(ctx, tx, &file)
		if err == nil {
			steps, err = withRepairs(ctx, tx, file.Name, plan.steps)
		}
		return err
	})
	return steps, err
}

// lockTemplates is the lock of selectors: of who changes them, and of who evaluates them.
const lockTemplates = `SELECT pg_advisory_xact_lock(hashtextextended('headgate.fleets', 0))`

// takeTemplates waits for the lock of selectors. It comes before the statements that
// read tenants or selectors, so that they see what the holder before has committed.
func takeTemplates(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, lockTemplates); err != nil {
		return fmt.Errorf("waiting for another change of templates: %w", err)
	}
	return nil
}

// plan compares a file with the database.
func (f *Files) plan(ctx context.Context, tx pgx.Tx, file *File) (plan filePlan, err error) {
	if err := checkScheduleName(file.Name); err != nil {
		return plan, fmt.Errorf("the file's name: %w", err)
	}
	calendars, gone, err := planCalendars(ctx, tx, file)
	if err != nil {
		return plan, err
	}
	for i := range file.Templates {
		file.Templates[i].ManagedBy = file.Name
		plan.calendars = append(plan.calendars, file.Templates[i].Policy.Calendars...)
	}
	documents, err := f.templates.documents(ctx, tx, file.Templates, calendars.after)
	if err != nil {
		return plan, err
	}
	changes, err := planTemplates(ctx, tx, file, documents)
	if err != nil {
		return plan, err
	}
	plan.steps = append(plan.steps, calendars.steps...)
	differs := map[string]bool{}
	for _, step := range changes {
		if step.Action != "delete" {
			plan.steps = append(plan.steps, step)
			differs[step.Name] = true
		}
	}
	plan.documents = slices.DeleteFunc(documents, func(d templateDocument) bool { return !differs[d.name] })
	plan.steps = append(plan.steps, slices.DeleteFunc(changes, func(s PlanStep) bool { return s.Action != "delete" })...)
	plan.steps = append(plan.steps, gone...)
	return plan, nil
}

// calendarPlan is what becomes of the exclusion calendars.
type calendarPlan struct {
	steps []PlanStep
	after map[string]calendar.Days // that there are then
}

const selectCalendarOwners = `SELECT name, managed_by FROM headgate.calendars`

// calendarsFor returns the calendars that there are, and which file each comes from. One
// that cannot be read is an error only if the file's schedules name it and the file does
// not give it anew.
func calendarsFor(ctx context.Context, tx pgx.Tx, file *File) (there map[string]calendar.Days, owners map[string]string, err error) {
	there, err = readCalendars(ctx, tx, nil)
	var unreadable unreadableCalendarsError
	if err != nil && !errors.As(err, &unreadable) {
		return nil, nil, err
	}
	for _, f := range file.Templates {
		for _, name := range f.Policy.Calendars {
			if _, given := file.Calendars[name]; unreadable[name] != nil && !given {
				return nil, nil, unreadableCalendarsError{name: unreadable[name]}
			}
		}
	}
	rows, err := tx.Query(ctx, selectCalendarOwners)
	if err != nil {
		return nil, nil, fmt.Errorf("reading exclusion calendars: %w", err)
	}
	owners = map[string]string{}
	var name, owner string
	if _, err := pgx.ForEachRow(rows, []any{&name, &owner}, func() error { owners[name] = owner; return nil }); err != nil {
		return nil, nil, fmt.Errorf("reading exclusion calendars: %w", err)
	}
	return there, owners, nil
}

// planCalendars compares the calendars of a file with those that there are. Those that
// go are steps of their own, because they come after the schedules that have named them.
func planCalendars(ctx context.Context, tx pgx.Tx, file *File) (plan calendarPlan, gone []PlanStep, err error) {
	there, owners, err := calendarsFor(ctx, tx, file)
	if err != nil {
		return plan, nil, err
	}
	plan.after = there
	for _, name := range slices.Sorted(maps.Keys(file.Calendars)) {
		want, err := calendar.NewDays(name, file.Calendars[name])
		if err != nil {
			return plan, nil, err
		}
		step := PlanStep{Action: "change", What: "calendar", Name: name, Fields: []string{}, Warnings: []string{}}
		owner, ok := owners[name]
		switch {
		case !ok:
			step.Action = "add"
		case owner != file.Name && !file.Adopt:
			return plan, nil, otherOwner("calendar", name, owner)
		case owner != file.Name:
			step.Fields = append(step.Fields, fmt.Sprintf("file: %s -> %s", shown(owner), file.Name))
		}
		if have, readable := there[name]; ok && (!readable || !slices.Equal(have.Ranges, want.Ranges)) {
			step.Fields = append(step.Fields, fmt.Sprintf("days: %d -> %s", len(have.Ranges), jobs.Count(len(want.Ranges), "range")))
		}
		if !ok || len(step.Fields) > 0 {
			plan.steps = append(plan.steps, step)
		}
		there[name] = want
	}
	for _, name := range slices.Sorted(maps.Keys(owners)) {
		if _, kept := file.Calendars[name]; owners[name] == file.Name && !kept {
			if err := unused(ctx, tx, name, file.Name); err != nil {
				return plan, nil, err
			}
			delete(there, name)
			gone = append(gone, PlanStep{Action: "delete", What: "calendar", Name: name, Fields: []string{}, Warnings: []string{}})
		}
	}
	return plan, gone, nil
}

// otherOwner refuses what is there under a name and is not the file's.
func otherOwner(what, name, owner string) error {
	from := "was made by hand"
	if owner != "" {
		from = "comes from the file " + owner
	}
	return fmt.Errorf("%w: the %s %s is there already and %s: give it another name, or pass --adopt to make it this file's", ErrConflict, what, name, from)
}

// comparedTemplate is one schedule of a file, or one that the file had, beside the row that
// is there.
type comparedTemplate struct {
	name           string
	there, wanted  bool
	owner          string
	changed        []changedField
	selector       selector.Selector
	before, after  int
	own            int      // tenants that keep a schedule of their own by this name
	overrides, met []string // the tenants of overrides, and those of them that are selected
	brand          *int     // that it is then limited to
	lacking        Lacking  // that brand
}

type changedField struct {
	Field  string          `json:"field"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// compareTemplates compares what a file wants ($1) with the templates of its names and with
// those that come from it ($2), and returns what differs. Both sides are compared as
// Postgres has them: what a file wants is turned into a row of the table first. Selectors
// are evaluated only of what differs.
const compareTemplates = `
WITH wanted AS (
    SELECT r.name, r.selector, r.selection, w.whole->'overrides' AS overrides,
           headgate.fleet_document(to_jsonb(r),
               (SELECT jsonb_object_agg(key, value - 'tenant_id') FROM jsonb_each(w.whole->'overrides'))) AS document
    FROM jsonb_array_elements($1) AS w (whole) CROSS JOIN LATERAL jsonb_populate_record(NULL::headgate.fleets, w.whole) r),
have AS (
    SELECT f.id, f.name, f.managed_by, f.selector,
           headgate.fleet_document(to_jsonb(f), headgate.stored_overrides(f.id)) AS document
    FROM headgate.fleets f
    WHERE f.managed_by = $2 OR f.name IN (SELECT name FROM wanted)),
different AS MATERIALIZED (
    SELECT name, h.id, h.managed_by, h.document AS before, w.document AS after, coalesce(w.selector, h.selector) AS selector, w.selection, w.overrides
    FROM wanted w FULL JOIN have h USING (name)
    WHERE h.document::text IS DISTINCT FROM w.document::text)
SELECT d.name, d.before IS NOT NULL, d.after IS NOT NULL, coalesce(d.managed_by, ''),
       CASE WHEN d.before IS NOT NULL AND d.after IS NOT NULL THEN headgate.changed_fields(d.before, d.after) ELSE '[]' END,
       d.selector, (SELECT count(*) FROM headgate.schedules s WHERE s.fleet_id = d.id),
       n.tenants, n.own, ARRAY(SELECT jsonb_object_keys(d.overrides)), coalesce(n.met, '{}'),
       (d.after->>'brand_id')::int, n.lacking, coalesce(n.lacking_first, '{}')
FROM different d
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE s.id IS NULL AND NOT m.lacks_brand) AS tenants, count(s.id) AS own, array_agg(m.slug) FILTER (WHERE d.overrides ? m.slug) AS met,
           count(*) FILTER (WHERE s.id IS NULL AND m.lacks_brand) AS lacking, (array_agg(m.slug ORDER BY m.slug) FILTER (WHERE s.id IS NULL AND m.lacks_brand))[1:5] AS lacking_first
    FROM headgate.selected_of_brand(d.selection, (d.after->>'brand_id')::int) m
    LEFT JOIN headgate.schedules s ON s.tenant_id = m.tenant_id AND s.name = d.name AND s.fleet_id IS NULL
    WHERE d.after IS NOT NULL) n ON true
ORDER BY d.name`

// planTemplates are the steps from the templates that there are to those of a file.
func planTemplates(ctx context.Context, tx pgx.Tx, file *File, documents []templateDocument) ([]PlanStep, error) {
	whole, err := json.Marshal(documents)
	if err != nil {
		return nil, fmt.Errorf("comparing schedules: %w", err)
	}
	rows, err := tx.Query(ctx, compareTemplates, whole, file.Name)
	if err != nil {
		return nil, fmt.Errorf("comparing schedules: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (PlanStep, error) {
		var f comparedTemplate
		if err := row.Scan(&f.name, &f.there, &f.wanted, &f.owner, &f.changed, &f.selector, &f.before, &f.after, &f.own, &f.overrides, &f.met, &f.brand, &f.lacking.Tenants, &f.lacking.First); err != nil {
			return PlanStep{}, fmt.Errorf("comparing schedules: %w", err)
		}
		if f.there && f.wanted && f.owner != file.Name && !file.Adopt {
			return PlanStep{}, otherOwner("schedule", f.name, f.owner)
		}
		return f.step(), nil
	})
}

func (f *comparedTemplate) step() PlanStep {
	step := PlanStep{Action: "change", What: "schedule", Name: f.name, Fields: []string{}, Select: f.selector.String(), Before: f.before, Tenants: f.after, Warnings: []string{}}
	switch {
	case !f.wanted:
		step.Action = "delete"
		return step
	case !f.there:
		step.Action = "add"
	}
	for _, ch := range f.changed {
		step.Fields = append(step.Fields, ch.String())
	}
	if f.after+f.own+f.lacking.Tenants == 0 {
		step.Warnings = append(step.Warnings, fmt.Sprintf("%s selects no tenant now", f.selector))
	}
	if f.own > 0 {
		step.Warnings = append(step.Warnings, fmt.Sprintf("%d of the selected tenants keep a schedule of their own by this name", f.own))
	}
	if f.lacking.Tenants > 0 {
		step.Warnings = append(step.Warnings, f.lacking.Warning(*f.brand))
	}
	met := map[string]bool{}
	for _, slug := range f.met {
		met[slug] = true
	}
	missed := slices.DeleteFunc(f.overrides, func(slug string) bool { return met[slug] })
	if len(missed) > 0 && f.after+f.own+f.lacking.Tenants > 0 {
		slices.Sort(missed)
		step.Warnings = append(step.Warnings, fmt.Sprintf("%s does not select %s: the overrides for them do nothing now", f.selector, some(missed)))
	}
	return step
}

// some names ten of many.
func some(names []string) string {
	if len(names) > 10 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:10], ", "), len(names)-10)
	}
	return strings.Join(names, ", ")
}

// String is "cron: @daily -> @hourly".
func (ch changedField) String() string {
	return fmt.Sprintf("%s: %s -> %s", shownName(ch.Field), shownValue(ch.Field, ch.Before), shownValue(ch.Field, ch.After))
}

// shownValue is a column's value for people.
func shownValue(field string, value json.RawMessage) string {
	var text string
	var override overrideRow
	switch {
	case len(value) == 0 || string(value) == "null" || string(value) == "[]":
		return shown("")
	case strings.HasPrefix(field, "override for ") && json.Unmarshal(value, &override) == nil:
		short, _ := json.Marshal(Override{Cron: deref(override.Cron), Zone: deref(override.Zone), Args: override.given()}) // it has just been read
		return shown(strings.Replace(string(short), `{"tenant":"",`, "{", 1))
	case json.Unmarshal(value, &text) == nil:
		return shown(text)
	}
	return shown(string(value))
}

func shown(text string) string {
	if text == "" {
		return "(none)"
	}
	return fit.Cut(text)
}

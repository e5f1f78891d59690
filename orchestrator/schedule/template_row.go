package schedule

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/selector"
)

// templateDocument is a template as SQL takes it: what its row is to be, with its overrides.
type templateDocument struct {
	id, name, managedBy string
	Spec
	selector  selector.Selector
	overrides map[string]overrideRow // by slug
}

// MarshalJSON names what the table has as its columns are named.
func (d *templateDocument) MarshalJSON() ([]byte, error) {
	row := d.row()
	row["id"], row["name"], row["managed_by"], row["overrides"] = d.id, d.name, d.managedBy, d.overrides
	row["selector"], row["selection"] = d.selector, d.selector.Selection()
	return json.Marshal(row)
}

type overrideRow struct {
	Tenant string          `json:"tenant_id,omitempty"` // where it is written
	Cron   *string         `json:"cron"`
	Zone   *string         `json:"zone"`
	Args   json.RawMessage `json:"args"`
}

// document is what a template's row is to be. Its overrides are not in it yet: whose they
// are is for the catalog to say.
func (p *TemplateParams) document() templateDocument {
	return templateDocument{id: uuid.Must(uuid.NewV7()).String(), name: p.Name, managedBy: p.ManagedBy, Spec: p.Spec, selector: p.Select, overrides: map[string]overrideRow{}}
}

// given are the arguments; none where the column is NULL.
func (o *overrideRow) given() json.RawMessage {
	if string(o.Args) == "null" {
		return nil
	}
	return o.Args
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func inUTC(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	utc := at.UTC()
	return &utc
}

// nothing is NULL in a column.
func nothing(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// documents checks templates and returns what their rows are to be. The calendars are all
// that they may name.
func (t *Templates) documents(ctx context.Context, tx pgx.Tx, templates []TemplateParams, calendars map[string]calendar.Days) ([]templateDocument, error) {
	documents := make([]templateDocument, len(templates))
	seen := map[string]bool{}
	var names []string
	for i := range templates {
		p := &templates[i]
		err := t.checkTemplate(ctx, p, calendars)
		if err == nil && seen[p.Name] {
			err = jobs.Inputf("name", p.Name, "it is given twice: give each template once")
		}
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", fit.Cut(p.Name), err)
		}
		seen[p.Name] = true
		documents[i] = p.document()
		for _, o := range p.Overrides {
			names = append(names, o.Tenant)
		}
	}
	if len(names) == 0 {
		return documents, nil
	}
	tenants, err := t.catalog.TenantsByNameTx(ctx, tx, names)
	if err != nil {
		return nil, fmt.Errorf("overrides: %w", err)
	}
	for i := range templates {
		if err := documents[i].override(templates[i].Overrides, tenants); err != nil {
			return nil, fmt.Errorf("schedule %s: %w", templates[i].Name, err)
		}
	}
	return documents, nil
}

// override puts overrides into a document, by the slugs of their tenants.
func (d *templateDocument) override(overrides []Override, tenants queue.TenantSet) error {
	named := map[string]string{}
	for _, o := range overrides {
		tenant := tenants[o.Tenant]
		if other, twice := named[tenant.Slug]; twice {
			return jobs.Inputf("override for", o.Tenant, "it and that for %s are of one tenant, %s: put them together", fit.Cut(other), tenant.Slug)
		}
		named[tenant.Slug] = o.Tenant
		row := overrideRow{Tenant: tenant.ID, Cron: nothing(o.Cron), Zone: nothing(o.Zone), Args: o.Args}
		if len(o.Args) == 0 {
			row.Args = nil
		}
		d.overrides[tenant.Slug] = row
	}
	return nil
}

// checkTemplate refuses what no tenant could have, and puts the defaults in.
func (t *Templates) checkTemplate(ctx context.Context, params *TemplateParams, calendars map[string]calendar.Days) error {
	if err := checkScheduleName(params.Name); err != nil {
		return err
	}
	if err := params.Select.Check(); err != nil {
		return jobs.AsInputError("select", err)
	}
	if err := params.Policy.complete(); err != nil {
		return err
	}
	if err := jobs.CheckArgs(params.Args); err != nil {
		return err
	}
	if jobs.KindOptsOf(params.Args).Scope == jobs.ScopeDatabase {
		return jobs.Inputf("kind", params.Args.Kind(), "it works on a whole database; a selector is for the kinds of tenants")
	}
	if _, err := params.draft(ctx, "of-a-template", "", params.Args); err != nil {
		return err
	}
	if err := t.check(params.Kind, params.Spec.Args); err != nil {
		return err
	}
	if err := params.checkTimes("", "", calendars); err != nil {
		return err
	}
	for _, o := range params.Overrides {
		err := params.checkTimes(o.Cron, o.Zone, calendars)
		if err == nil && len(o.Args) > 0 {
			err = wire.CheckStored(params.Args, o.Args)
		}
		if err != nil {
			return fmt.Errorf("override for %s: %w", fit.Cut(o.Tenant), err)
		}
	}
	return nil
}

// checkTimes refuses times that no tenant could have; cron and zone are an override's.
func (p *TemplateParams) checkTimes(cron, zone string, calendars map[string]calendar.Days) error {
	s := p.Spec
	s.Cron, s.Zone = cmp.Or(cron, s.Cron), cmp.Or(zone, s.Zone, "UTC")
	_, err := s.Timetable(calendars)
	return err
}

const upsertTemplates = `
INSERT INTO headgate.fleets (id, name, managed_by, selector, selection, ` + specColumns + `)
SELECT id, name, managed_by, selector, selection, ` + specColumns + ` FROM jsonb_populate_recordset(NULL::headgate.fleets, $1)
ON CONFLICT (name) DO UPDATE
SET (managed_by, selector, selection, version, ` + specColumns + `) = (SELECT managed_by, selector, selection, fleets.version + 1, ` + specColumns + ` FROM (SELECT (excluded).*) wanted)
RETURNING id::text`

const clearOverrides = `DELETE FROM headgate.fleet_overrides WHERE fleet_id = ANY ($1)`

// insertOverrides keeps the JSON's null apart from none: the former is refused before.
const insertOverrides = `
INSERT INTO headgate.fleet_overrides (fleet_id, tenant_id, cron, zone, args)
SELECT f.id, (o.value->>'tenant_id')::uuid, o.value->>'cron', o.value->>'zone', nullif(o.value->'args', 'null')
FROM jsonb_array_elements($1) AS w (whole)
JOIN headgate.fleets f ON f.name = w.whole->>'name'
CROSS JOIN LATERAL jsonb_each(w.whole->'overrides') AS o`

const syncSchedules = `SELECT headgate.sync_schedules($1, NULL)`

// storeTemplates writes templates, anew or over those of their names, and gives their tenants
// the schedules. The lock of selectors is held.
func (d *deps) storeTemplates(ctx context.Context, tx pgx.Tx, documents []templateDocument) error {
	if len(documents) == 0 {
		return nil
	}
	overridden := map[string]bool{} // tenants
	for _, document := range documents {
		for _, o := range document.overrides {
			overridden[o.Tenant] = true
		}
	}
	if err := d.catalog.HoldTenantsTx(ctx, tx, slices.Sorted(maps.Keys(overridden))...); err != nil {
		return fmt.Errorf("overrides: %w", err)
	}
	whole, err := json.Marshal(documents)
	if err != nil {
		return fmt.Errorf("storing templates: %w", err)
	}
	rows, err := tx.Query(ctx, upsertTemplates, whole)
	if err != nil {
		return fmt.Errorf("storing templates: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("storing templates: %w", err)
	}
	for _, step := range []struct {
		sql   string
		given any
	}{{clearOverrides, ids}, {insertOverrides, whole}, {holdTemplateBrandsSQL, ids}, {syncSchedules, ids}} {
		if _, err := tx.Exec(ctx, step.sql, step.given); err != nil {
			return fmt.Errorf("storing templates: %w", err)
		}
	}
	return nil
}

const selectTemplates = `
SELECT f.id::text, f.name, f.managed_by, f.version, (SELECT count(*) FROM headgate.schedules s WHERE s.fleet_id = f.id),
       f.selector, headgate.stored_overrides(f.id), ` + specColumns + `
FROM headgate.fleets f
WHERE $1::text[] IS NULL OR f.name = ANY ($1)
ORDER BY f.name`

// readTemplates returns the templates of these names, those that there are, by name; nil means
// all.
func readTemplates(ctx context.Context, tx pgx.Tx, names []string) ([]Template, error) {
	rows, err := tx.Query(ctx, selectTemplates, names)
	if err != nil {
		return nil, fmt.Errorf("reading templates: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Template, error) {
		f := Template{Overrides: []Override{}}
		var overrides map[string]overrideRow
		err := row.Scan(append([]any{&f.ID, &f.Name, &f.ManagedBy, &f.Version, &f.Tenants, &f.Select, &overrides}, f.columns()...)...)
		f.Policy.Start, f.Policy.End = inUTC(f.Policy.Start), inUTC(f.Policy.End)
		for _, slug := range slices.Sorted(maps.Keys(overrides)) {
			o := overrides[slug]
			f.Overrides = append(f.Overrides, Override{Tenant: slug, Cron: deref(o.Cron), Zone: deref(o.Zone), Args: o.given()})
		}
		return f, err
	})
}

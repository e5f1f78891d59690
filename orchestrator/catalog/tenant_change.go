package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
)

// ErrChanged: somebody has changed the row since the caller looked at it.
var ErrChanged = jobs.Sentinel("changed_meanwhile", "it was changed meanwhile")

// TenantEditor changes tenants that are in the catalog. It is safe for concurrent use.
//
// Every method takes names of tenants: slugs, UUIDs or org_ids; one that is not known
// changes nothing of the others. Each call is one transaction, and locks the rows in the
// order of their UUIDs. Other Catalogs see a change as soon as they are notified (see
// [Listener]), else within FreshFor.
type TenantEditor struct{ c *Catalog }

// Editor returns what changes the catalog's tenants.
func (c *Catalog) Editor() TenantEditor { return TenantEditor{c} }

// TenantChange says what of a tenant is to change; what is nil or empty stays.
type TenantChange struct {
	Name     *string // for people; see TenantParams, as of the others
	Plan     *string
	Timezone *string // its schedules that follow the tenant's zone go by it from the next time on
	OrgKey   *string // "" means its org_id in digits; see TenantParams

	Labels   map[string]*string // nil takes a label out
	Features map[string]*string // its own values, as ParseFeature reads them; nil takes the tenant's own value out
	Kinds    *[]string          // the kinds that it may have jobs of; nil in it: those of the plan

	// Version is the one that the tenant must have, as the caller has seen it: else the
	// error matches ErrChanged. 0 is any. It is for one tenant.
	Version int
}

// Changed is a tenant before a change and after it.
type Changed struct{ Before, After Tenant }

// Change changes tenants, all of them or, in an error, none. Errors match
// jobs.ErrUnknownTenant, ErrChanged, ErrExists for an org_key that another tenant of a database
// has, ErrUnknownFeature, or are a *jobs.InputError.
func (e TenantEditor) Change(ctx context.Context, tenants []string, change TenantChange) ([]Changed, error) {
	return e.write(ctx, e.c.pool, "change", tenants, change.apply)
}

// ChangeTx is Change in the caller's transaction.
func (e TenantEditor) ChangeTx(ctx context.Context, tx pgx.Tx, tenants []string, change TenantChange) ([]Changed, error) {
	return e.write(ctx, tx, "change", tenants, change.apply)
}

// write locks the tenants, has them changed, and returns what has become of them.
func (e TenantEditor) write(ctx context.Context, db beginner, what string, names []string, change func(context.Context, pgx.Tx, []Tenant) error) ([]Changed, error) {
	w := writing{lock: func(ctx context.Context, tx pgx.Tx) ([]Tenant, error) { return lockTenants(ctx, tx, names) }, change: change}
	changed, err := w.do(ctx, e, db)
	if err != nil {
		return nil, fmt.Errorf("%s tenant %s: %w", what, someOf(names), err)
	}
	return changed, nil
}

// lockTenants returns the tenants of these names as they are under their locks, each once,
// in the order of their UUIDs. None of them was removed.
func lockTenants(ctx context.Context, tx pgx.Tx, names []string) ([]Tenant, error) {
	found, err := tenantsByName(ctx, tx, names)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, t := range found {
		ids[t.ID] = true
	}
	tenants, err := lockRows(ctx, tx, slices.Sorted(maps.Keys(ids)))
	if err != nil {
		return nil, err
	}
	for _, t := range tenants {
		if t.Status == Removed {
			return nil, fmt.Errorf("%w: %s (%s) was removed on %s, and stays for history only", jobs.ErrUnknownTenant, quote(t.Name), t.ID, t.StatusSince.UTC().Format("2006-01-02"))
		}
	}
	return tenants, nil
}

const tenantsLockSQL = `
SELECT id::text, status FROM headgate.tenants WHERE id = ANY ($1::text[]::uuid[]) ORDER BY id FOR NO KEY UPDATE`

// lockRows returns the tenants of these ids, in their order, as they are under their locks.
func lockRows(ctx context.Context, tx pgx.Tx, ids []string) ([]Tenant, error) {
	if _, err := tx.Exec(ctx, tenantsLockSQL, ids); err != nil {
		return nil, &lockError{ids, fmt.Errorf("locking the tenants: %w", err)}
	}
	// The statement before waited, so what it was told may have changed.
	found, err := tenantsByName(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	tenants := make([]Tenant, len(ids))
	for i, id := range ids {
		tenants[i] = found[id]
	}
	return tenants, nil
}

func changedSince(ctx context.Context, tx pgx.Tx, before []Tenant) ([]Changed, error) {
	changed := make([]Changed, len(before))
	ids := make([]string, len(before))
	for i, t := range before {
		ids[i] = t.ID
	}
	after, err := tenantsByName(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	for i, t := range before {
		changed[i] = Changed{t, after[t.ID]}
	}
	return changed, nil
}

const changeTenantsSQL = `
UPDATE headgate.tenants
SET name = coalesce($2, name), plan = coalesce($3, plan), timezone = coalesce($4, timezone),
    org_key = CASE WHEN $5::text IS NULL THEN org_key ELSE nullif($5, '') END,
    labels = (labels - $6::text[]) || $7::jsonb,
    features = (features - $8::text[]) || $9::jsonb,
    kinds = CASE WHEN $10 THEN $11::text[] ELSE kinds END
WHERE id = ANY ($1::text[]::uuid[])`

func (ch TenantChange) apply(ctx context.Context, tx pgx.Tx, tenants []Tenant) error {
	if err := ch.check(tenants); err != nil {
		return err
	}
	out, in := split(ch.Labels)
	featuresOut, featuresIn := split(ch.Features)
	features, err := parseFeatures(ctx, tx, featuresIn)
	if err != nil {
		return err
	}
	var kinds []string
	if ch.Kinds != nil {
		kinds = *ch.Kinds
	}
	var key *string
	if ch.OrgKey != nil {
		canonical := canonicalKey(*ch.OrgKey)
		key = &canonical
	}
	ids := make([]string, len(tenants))
	for i, t := range tenants {
		ids[i] = t.ID
	}
	_, err = tx.Exec(ctx, changeTenantsSQL, ids, ch.Name, ch.Plan, ch.Timezone, key, out, in, featuresOut, features, ch.Kinds != nil, kinds)
	return tenantConflict(err, nil)
}

func (ch TenantChange) check(tenants []Tenant) error {
	deref := func(text *string) string {
		if text == nil {
			return ""
		}
		return *text
	}
	_, labels := split(ch.Labels)
	err := firstOf(
		jobs.CheckText("name", deref(ch.Name), maxText), CheckPlan("plan", deref(ch.Plan)), checkOrgKey(deref(ch.OrgKey)), checkLabels(labels),
	)
	switch {
	case err != nil:
		return err
	case ch.Name != nil && *ch.Name == "":
		return jobs.Inputf("name", "", "a tenant has a name: give one, or leave it out")
	case ch.OrgKey != nil && len(tenants) > 1:
		return jobs.Inputf("org_key", *ch.OrgKey, "%s cannot have one key: change one at a time", jobs.Count(len(tenants), "tenant"))
	case ch.Version != 0 && len(tenants) > 1:
		return jobs.Inputf("version", fmt.Sprint(ch.Version), "it is of one tenant, and %d are to change", len(tenants))
	case ch.Version != 0 && ch.Version != tenants[0].Version:
		return fmt.Errorf("%w: it has version %d, not %d: look at it again before you change it", ErrChanged, tenants[0].Version, ch.Version)
	case ch.Timezone != nil:
		if err := checkZone(*ch.Timezone); err != nil {
			return err
		}
	}
	if ch.Kinds != nil {
		if err := checkKinds(*ch.Kinds); err != nil {
			return err
		}
	}
	for _, t := range tenants {
		if err := ch.checkLabelsOf(t); err != nil {
			return err
		}
	}
	return nil
}

func (ch TenantChange) checkLabelsOf(t Tenant) error {
	after := maps.Clone(t.Labels)
	for key, value := range ch.Labels {
		delete(after, key)
		if value != nil {
			after[key] = *value
		}
	}
	if len(after) > maxLabels {
		return jobs.Inputf("labels", "", "%s would have %d labels; at most %d are allowed", quote(t.Slug), len(after), maxLabels)
	}
	return nil
}

// split sorts what is to change into the names that go and the values that come.
func split(change map[string]*string) (out []string, in map[string]string) {
	out, in = []string{}, map[string]string{}
	for key, value := range change {
		if value == nil {
			out = append(out, key)
		} else {
			in[key] = *value
		}
	}
	return out, in
}

// Rename gives a tenant another slug, which nobody has. What names the tenant by its UUID
// or org_id, jobs and schedules among it, goes on. Domains stay as they are. Errors match
// jobs.ErrUnknownTenant, ErrExists, or are a *jobs.InputError.
func (e TenantEditor) Rename(ctx context.Context, tenant, slug string) (Changed, error) {
	return e.rename(ctx, e.c.pool, tenant, slug)
}

// RenameTx is Rename in the caller's transaction.
func (e TenantEditor) RenameTx(ctx context.Context, tx pgx.Tx, tenant, slug string) (Changed, error) {
	return e.rename(ctx, tx, tenant, slug)
}

const renameTenantSQL = `UPDATE headgate.tenants SET slug = $2 WHERE id = $1`

func (e TenantEditor) rename(ctx context.Context, db beginner, tenant, slug string) (Changed, error) {
	if err := checkSlug(slug); err != nil {
		return Changed{}, fmt.Errorf("rename tenant %s: %w", quote(tenant), err)
	}
	changed, err := e.write(ctx, db, "rename", []string{tenant}, func(ctx context.Context, tx pgx.Tx, tenants []Tenant) error {
		_, err := tx.Exec(ctx, renameTenantSQL, tenants[0].ID, slug)
		return tenantConflict(err, nil)
	})
	if err != nil {
		return Changed{}, err
	}
	return changed[0], nil
}

// firstOf returns the first error that is one.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// rawObject is the JSON of an object of raw values.
func rawObject(values map[string]json.RawMessage) json.RawMessage {
	if len(values) == 0 {
		return json.RawMessage("{}")
	}
	text, _ := json.Marshal(values) // raw values are JSON already
	return text
}

// constraintOf is the name of the constraint that err is about, and the detail of it.
func constraintOf(err error) (name, detail string) {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.ConstraintName, pgErr.Detail
	}
	return "", ""
}

package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/quote"
	"github.com/headgate/headgate/orchestrator/internal/fault"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// AddTenant adds an active tenant to the database that params name, or else to the shared
// one that has the fewest tenants and takes it. Errors match ErrExists (the
// slug or org_id is taken, or the database is dedicated and has its tenant), ErrFull,
// jobs.ErrUnknownDatabase, or are a *jobs.InputError.
//
// Adding tenants takes turns: the next waits until this transaction ends.
func (c *Catalog) AddTenant(ctx context.Context, params TenantParams) (Tenant, error) {
	defer c.memory.drop() // what was unknown may be known
	return c.addTenant(ctx, c.pool, params)
}

// AddTenantTx is AddTenant in the caller's transaction.
func (c *Catalog) AddTenantTx(ctx context.Context, tx pgx.Tx, params TenantParams) (Tenant, error) {
	return c.addTenant(ctx, tx, params)
}

func (c *Catalog) addTenant(ctx context.Context, db beginner, params TenantParams) (Tenant, error) {
	tenants, err := c.addTenants(ctx, db, []TenantParams{params})
	if err != nil {
		return Tenant{}, fmt.Errorf("add tenant: %w", err)
	}
	return tenants[0], nil
}

// AddTenants adds all the tenants or none, in one statement whatever their
// number, and returns them in order. Errors are those of AddTenant; an
// *jobs.InputError names the tenant.
func (c *Catalog) AddTenants(ctx context.Context, params []TenantParams) ([]Tenant, error) {
	defer c.memory.drop()
	tenants, err := c.addTenants(ctx, c.pool, params)
	if err != nil {
		return nil, fmt.Errorf("add tenants: %w", err)
	}
	return tenants, nil
}

// AddTenantsTx is AddTenants in the caller's transaction.
func (c *Catalog) AddTenantsTx(ctx context.Context, tx pgx.Tx, params []TenantParams) ([]Tenant, error) {
	tenants, err := c.addTenants(ctx, tx, params)
	if err != nil {
		return nil, fmt.Errorf("add tenants: %w", err)
	}
	return tenants, nil
}

func (c *Catalog) addTenants(ctx context.Context, db beginner, params []TenantParams) ([]Tenant, error) {
	if len(params) == 0 {
		return nil, nil
	}
	tenants, err := newTenants(params)
	if err != nil {
		return nil, err
	}
	return within(ctx, db, func(tx pgx.Tx) ([]Tenant, error) {
		if err := reserveOrgIDs(ctx, tx, tenants); err != nil {
			return nil, err
		}
		fault.Point(fault.OrgIDsTaken)
		databases, err := databasesOf(ctx, tx, params)
		if err != nil {
			return nil, err
		}
		for i := range tenants {
			if place := databases[params[i].Database]; params[i].Database != "" {
				tenants[i].DatabaseID, tenants[i].Database = place.id.String(), place.name
			}
		}
		if err := choosePlaces(ctx, tx, tenants); err != nil {
			return nil, err
		}
		if err := insertTenants(ctx, tx, tenants, databases); err != nil {
			return nil, err
		}
		fault.Point(fault.TenantsAdded)
		return asWritten(ctx, tx, tenants)
	})
}

// asWritten reads the tenants that have just been added, with what the database has put
// into their rows.
func asWritten(ctx context.Context, tx pgx.Tx, tenants []Tenant) ([]Tenant, error) {
	ids := make([]string, len(tenants))
	for i, t := range tenants {
		ids[i] = t.ID
	}
	written, err := tenantsByName(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		tenants[i] = written[id]
	}
	return tenants, nil
}

const orgIDsSQL = `
UPDATE headgate.org_ids
SET highest = greatest(highest, $1, (SELECT max(org_id) FROM headgate.tenants)) + $2
RETURNING highest`

// reserveOrgIDs numbers the tenants that have no org_id yet, above every number
// given out before or by hand.
func reserveOrgIDs(ctx context.Context, tx pgx.Tx, tenants []Tenant) error {
	var given, missing int64
	for _, t := range tenants {
		given = max(given, t.OrgID)
		if t.OrgID == 0 {
			missing++
		}
	}
	var highest int64
	if err := tx.QueryRow(ctx, orgIDsSQL, given, missing).Scan(&highest); err != nil {
		return fmt.Errorf("reserve org_ids: %w", err)
	}
	if highest > maxOrgID {
		return jobs.Inputf("org_id", "", "no next number is free: the highest would be %d, and may be %d; give each new tenant an org_id that nobody had", highest, int64(maxOrgID))
	}
	next := highest - missing
	for i := range tenants {
		if tenants[i].OrgID == 0 {
			next++
			tenants[i].OrgID = next
		}
	}
	return nil
}

// databaseRow is where a new tenant goes.
type databaseRow struct {
	id         uuid.UUID
	name, kind string
}

const databasesShareSQL = `
SELECT id, name, kind
FROM headgate.databases
WHERE name = ANY ($1) OR id = ANY ($2)
FOR KEY SHARE`

// databasesOf returns the databases that params name, by the name or UUID used
// there, or an error that names those that do not exist.
func databasesOf(ctx context.Context, tx pgx.Tx, params []TenantParams) (map[string]databaseRow, error) {
	wanted := map[string]databaseRow{}
	for _, p := range params {
		if p.Database != "" {
			wanted[p.Database] = databaseRow{}
		}
	}
	var names []string
	var ids []uuid.UUID
	for key := range wanted {
		if id, ok := fit.UUID(key); ok {
			ids = append(ids, id)
		} else {
			names = append(names, key)
		}
	}
	rows, err := tx.Query(ctx, databasesShareSQL, names, ids)
	if err != nil {
		return nil, err
	}
	found := map[string]databaseRow{}
	var d databaseRow
	if _, err = pgx.ForEachRow(rows, []any{&d.id, &d.name, &d.kind}, func() error {
		found[d.name], found[d.id.String()] = d, d
		return nil
	}); err != nil {
		return nil, err
	}
	return wanted, fillDatabases(wanted, found)
}

func fillDatabases(wanted, found map[string]databaseRow) error {
	var unknown []string
	for key := range wanted {
		name := key
		if id, ok := fit.UUID(key); ok {
			name = id.String()
		}
		if row, ok := found[name]; ok {
			wanted[key] = row
		} else {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%w %s", jobs.ErrUnknownDatabase, someOf(unknown))
	}
	return nil
}

const tenantsInsertSQL = `
INSERT INTO headgate.tenants (id, org_id, org_key, slug, name, plan, timezone, labels, database_id, database_kind)
SELECT t.id, t.org_id, nullif(t.org_key, ''), t.slug, t.name, t.plan, t.timezone, t.labels::jsonb, d.id, d.kind
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::text[])
     AS t (id, org_id, slug, name, plan, timezone, labels, database_id, org_key)
JOIN headgate.databases d ON d.id = t.database_id`

// insertTenants writes the tenants, whose databases the caller holds locked.
func insertTenants(ctx context.Context, tx pgx.Tx, tenants []Tenant, databases map[string]databaseRow) error {
	var orgIDs []int64
	var ids, slugs, names, plans, zones, labels, databaseIDs, keys []string
	for _, t := range tenants {
		object, err := json.Marshal(t.Labels)
		if err != nil {
			return err
		}
		ids = append(ids, t.ID)
		orgIDs = append(orgIDs, t.OrgID)
		slugs = append(slugs, t.Slug)
		names = append(names, t.Name)
		plans = append(plans, t.Plan)
		zones = append(zones, t.Timezone)
		labels = append(labels, string(object))
		databaseIDs = append(databaseIDs, t.DatabaseID)
		keys = append(keys, t.OrgKey)
	}
	_, err := tx.Exec(ctx, tenantsInsertSQL, ids, orgIDs, slugs, names, plans, zones, labels, databaseIDs, keys)
	return placeConflict(tenantConflict(err, databases))
}

// tenantConflict turns a broken unique constraint into a sentence.
func tenantConflict(err error, databases map[string]databaseRow) error {
	switch constraint, value := violation(err); constraint {
	case "tenants_slug_key":
		return existsf(err, "slug %q is taken already", value)
	case "tenants_org_id_key":
		return existsf(err, "org_id %s is taken already; leave it out to get the next free one", value)
	case "tenants_org_key":
		_, key, _ := strings.Cut(value, ", ")
		return existsf(err, "org_key %s is that of another tenant of the database; its rows would be both tenants'", shown(key))
	case "tenants_dedicated":
		for _, d := range databases {
			if d.id.String() == value {
				value = d.name
			}
		}
		return existsf(err, "database %q is dedicated and has its tenant already; use a shared database, or add another", value)
	}
	switch constraint, of := constraintOf(err); constraint {
	case "grants_name_tenants", "templates_name_tenants":
		return inUsef(err, "%s", SlugNamed(constraint, of))
	case "org_keys_never_again":
		return existsf(err, "org_key %q was that of a removed tenant, whose rows may lie in a database that left the catalog; give an org_key that no tenant has had", of)
	}
	return err
}

// SlugNamed says what keeps a tenant's slug, and the command that frees the slug, by a row of
// headgate.named_slugs.
func SlugNamed(rule, by string) string {
	if rule == "templates_name_tenants" {
		return fmt.Sprintf("template %s names its slug, and would reach another tenant that gets the slug: `headgate schedule edit %s --template --select EXPR` has it name others first", quote.Value(by, 64), jobs.ShellWord(by))
	}
	at := strings.LastIndex(by, " ")
	return fmt.Sprintf("a grant of headgate.enqueue names its slug, and would be another tenant's that gets the slug: `headgate enqueue-grant remove %s %s` takes the grant out first",
		jobs.ShellWord(by[:max(at, 0)]), jobs.ShellWord(by[at+1:]))
}

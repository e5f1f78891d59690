package catalog

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
)

const tenantsInsertSQL = `
INSERT INTO headgate.tenants (id, org_id, slug, name, plan, timezone, labels, database_id, database_kind)
SELECT t.id, t.org_id, t.slug, t.name, t.plan, t.timezone, t.labels::jsonb, d.id, d.kind
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[])
     AS t (id, org_id, slug, name, plan, timezone, labels, database_id)
JOIN headgate.databases d ON d.id = t.database_id`

// insertTenants writes the tenants, whose databases the caller holds locked.
func insertTenants(ctx context.Context, tx pgx.Tx, tenants []Tenant, databases map[string]databaseRow) error {
	var orgIDs []int64
	var ids, slugs, names, plans, zones, labels, databaseIDs []string
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
	}
	_, err := tx.Exec(ctx, tenantsInsertSQL, ids, orgIDs, slugs, names, plans, zones, labels, databaseIDs)
	return tenantConflict(err, databases)
}

// tenantConflict turns a broken unique constraint into a sentence.
func tenantConflict(err error, databases map[string]databaseRow) error {
	switch constraint, value := violation(err); constraint {
	case "tenants_slug_key":
		return existsf(err, "slug %q is taken already", value)
	case "tenants_org_id_key":
		return existsf(err, "org_id %s is taken already; leave it out to get the next free one", value)
	case "tenants_dedicated":
		for _, d := range databases {
			if d.id.String() == value {
				value = d.name
			}
		}
		return existsf(err, "database %q is dedicated and has its tenant already; use a shared database, or add another", value)
	}
	return err
}

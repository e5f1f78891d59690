package catalog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// querier reads; a pool and a transaction both do.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// rowQuerier is a connection, a transaction or a pool.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// tenantNames are names of tenants sorted by what they can be. The three forms
// exclude each other: an org_id is digits, a slug begins with a letter and is
// never shaped like a UUID.
type tenantNames struct {
	slugs  []string
	ids    []uuid.UUID
	orgIDs []int64
}

func (n *tenantNames) add(name string) {
	if id, ok := fit.UUID(name); ok {
		n.ids = append(n.ids, id)
	} else if orgID, ok := parseOrgID(name); ok {
		n.orgIDs = append(n.orgIDs, orgID)
	} else if namePatternWhole.MatchString(name) {
		n.slugs = append(n.slugs, name)
	}
}

// parseOrgID reads a decimal number without sign, space or leading zero.
func parseOrgID(text string) (int64, bool) {
	n, ok := jobs.ParseWhole(text)
	return n, ok && n > 0
}

// The columns of a Tenant in the order of its targets, and where they stand. A tenant that
// was removed may be in no database.
const (
	tenantFields = `t.id::text, t.slug, t.org_id, coalesce(t.org_key, t.org_id::text), t.name, t.plan, t.timezone, t.labels,
       headgate.feature_values(fd.values, p.features, t.features),
       t.status, coalesce(d.id::text, ''), coalesce(d.name, ''), coalesce(s.name, ''), coalesce(s.region, ''), t.generation,
       t.version, t.status_reason, t.status_by, t.status_since, t.waiting, coalesce(t.kinds, p.kinds),
       CASE WHEN fd.gates = '[]' THEN NULL ELSE headgate.withheld_kinds(fd.gates, headgate.feature_values(fd.values, p.features, t.features)) END`
	tenantRows = `
FROM headgate.tenants t
JOIN headgate.plans p ON p.name = t.plan
CROSS JOIN headgate.feature_defaults fd
LEFT JOIN headgate.databases d ON d.id = t.database_id
LEFT JOIN headgate.servers s ON s.id = d.server_id
`
	tenantColumns = "SELECT " + tenantFields + tenantRows
)

// targets are where the tenantFields of a row go.
func (t *Tenant) targets() []any {
	return []any{
		&t.ID, &t.Slug, &t.OrgID, &t.OrgKey, &t.Name, &t.Plan, &t.Timezone, &t.Labels, &t.Features,
		&t.Status, &t.DatabaseID, &t.Database, &t.Server, &t.Region, &t.Generation,
		&t.Version, &t.StatusReason, &t.StatusBy, &t.StatusSince, &t.Waiting, &t.Kinds, &t.Withheld,
	}
}

// scanTenant reads a row of tenantColumns.
func scanTenant(row pgx.CollectableRow) (t Tenant, err error) {
	err = row.Scan(t.targets()...)
	return t, err
}

const tenantsByNameSQL = tenantColumns + `WHERE t.slug = ANY ($1) OR t.id = ANY ($2) OR t.org_id = ANY ($3)`

// One name is the usual case. Postgres never keeps a plan for lists, whose
// length it would have to guess, and planning that takes longer than the rest.
const (
	tenantBySlugSQL  = tenantColumns + `WHERE t.slug = $1`
	tenantByIDSQL    = tenantColumns + `WHERE t.id = $1`
	tenantByOrgIDSQL = tenantColumns + `WHERE t.org_id = $1`
)

// query walks one unique index for one name, all three for several.
func (n *tenantNames) query() (sql string, args []any) {
	if len(n.slugs)+len(n.ids)+len(n.orgIDs) != 1 {
		return tenantsByNameSQL, []any{n.slugs, n.ids, n.orgIDs}
	}
	switch {
	case len(n.slugs) == 1:
		return tenantBySlugSQL, []any{n.slugs[0]}
	case len(n.ids) == 1:
		return tenantByIDSQL, []any{n.ids[0]}
	default:
		return tenantByOrgIDSQL, []any{n.orgIDs[0]}
	}
}

// tenantsByName finds all in one query.
func tenantsByName(ctx context.Context, db querier, names []string) (map[string]Tenant, error) {
	var wanted tenantNames
	for _, name := range names {
		if name == "" {
			return nil, fmt.Errorf("%w: one of the names is empty", jobs.ErrNoTenant)
		}
		wanted.add(name)
	}
	sql, args := wanted.query()
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("resolve tenants: %w", err)
	}
	tenants, err := pgx.CollectRows(rows, scanTenant)
	if err != nil {
		return nil, fmt.Errorf("resolve tenants: %w", err)
	}
	return matchNames(names, tenants)
}

// matchNames puts each tenant under the name it was asked for by.
func matchNames(names []string, tenants []Tenant) (map[string]Tenant, error) {
	byName := make(map[string]Tenant, 3*len(tenants))
	for _, t := range tenants {
		byName[t.ID], byName[t.Slug], byName[strconv.FormatInt(t.OrgID, 10)] = t, t, t
	}
	found := make(map[string]Tenant, len(names))
	var unknown []string
	for _, name := range names {
		key := name
		if id, ok := fit.UUID(name); ok {
			key = id.String()
		}
		tenant, ok := byName[key]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		found[name] = tenant
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%w: no tenant has the %s %s", jobs.ErrUnknownTenant, anyName, someOf(unknown))
	}
	return found, nil
}

func tenantByName(ctx context.Context, db querier, name string) (Tenant, error) {
	found, err := tenantsByName(ctx, db, []string{name})
	if err != nil {
		return Tenant{}, err
	}
	return found[name], nil
}

package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// placedSQL goes by org_id because that never changes: a tenant that is renamed between two
// pages is on one of them.
const placedSQL = tenantColumns + `
WHERE t.database_id = $1 AND t.org_id > $2
ORDER BY t.org_id
LIMIT $3`

// TenantsIn returns the tenants that are placed in a database now, whatever their status:
// at most limit of them, 1 to 10,000, by org_id, those above after. database is a UUID. It
// asks the database and nothing that is remembered.
func (c *Catalog) TenantsIn(ctx context.Context, database string, after int64, limit int) ([]Tenant, error) {
	id, ok := fit.UUID(database)
	if !ok {
		return nil, fmt.Errorf("list tenants of a database: %s is not the UUID of one", shown(database))
	}
	rows, err := c.pool.Query(ctx, placedSQL, id, after, min(max(limit, 1), maxLimit))
	if err != nil {
		return nil, fmt.Errorf("list tenants of database %s: %w", id, err)
	}
	tenants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Tenant])
	if err != nil {
		return nil, fmt.Errorf("list tenants of database %s: %w", id, err)
	}
	return tenants, nil
}

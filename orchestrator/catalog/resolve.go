package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Tenant returns the tenant of that name: a slug, UUID or org_id. The error
// matches jobs.ErrNoTenant for "", else jobs.ErrUnknownTenant. A tenant that is
// suspended or moving is returned; its Status says so.
func (c *Catalog) Tenant(ctx context.Context, name string) (Tenant, error) {
	return tenantByName(ctx, c.pool, name)
}

// TenantsByName returns the tenants of all these names (slugs, UUIDs, org_ids),
// each under the name it was asked for by, with one query. If some do not exist
// one error names up to three of them; it matches jobs.ErrUnknownTenant.
func (c *Catalog) TenantsByName(ctx context.Context, names []string) (map[string]Tenant, error) {
	return tenantsByName(ctx, c.pool, names)
}

// TenantsByNameTx is TenantsByName inside the caller's transaction: it sees the
// tenants that the transaction has added, and needs no second connection.
func (c *Catalog) TenantsByNameTx(ctx context.Context, tx pgx.Tx, names []string) (map[string]Tenant, error) {
	return tenantsByName(ctx, tx, names)
}

// DatabaseID returns the UUID of the database with this name or UUID, or an
// error that matches jobs.ErrUnknownDatabase.
func (c *Catalog) DatabaseID(ctx context.Context, name string) (string, error) {
	return databaseID(ctx, c.pool, name)
}

// DatabaseIDTx is DatabaseID inside the caller's transaction.
func (c *Catalog) DatabaseIDTx(ctx context.Context, tx pgx.Tx, name string) (string, error) {
	return databaseID(ctx, tx, name)
}

const databaseIDSQL = `
SELECT id::text
FROM headgate.databases
WHERE name = $1 OR id = $2`

func databaseID(ctx context.Context, db querier, name string) (string, error) {
	wanted, wantedID := nameOrID(name)
	rows, err := db.Query(ctx, databaseIDSQL, wanted, wantedID)
	if err != nil {
		return "", fmt.Errorf("find database %s: %w", shown(name), err)
	}
	id, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", fmt.Errorf("%w %s", jobs.ErrUnknownDatabase, shown(name))
	case err != nil:
		return "", fmt.Errorf("find database %s: %w", shown(name), err)
	}
	return id, nil
}

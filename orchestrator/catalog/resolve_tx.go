package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// TenantsByNameTx is TenantsByName inside the caller's transaction: it sees the
// tenants that the transaction has added, and needs no second connection.
func (c *Catalog) TenantsByNameTx(ctx context.Context, tx pgx.Tx, names []string) (map[string]Tenant, error) {
	return tenantsByName(ctx, tx, names)
}

// DatabaseIDTx is DatabaseID inside the caller's transaction.
func (c *Catalog) DatabaseIDTx(ctx context.Context, tx pgx.Tx, name string) (string, error) {
	wanted, wantedID := nameOrID(name)
	var id string
	err := tx.QueryRow(ctx, databaseIDSQL, wanted, wantedID).Scan(&id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", fmt.Errorf("%w %s; `headgate database list` shows them", jobs.ErrUnknownDatabase, quote(name))
	case err != nil:
		return "", fmt.Errorf("find database %s: %w", quote(name), err)
	}
	return id, nil
}

package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// A row that refers to a tenant by a foreign key may be written while somebody removes the
// tenant: the key waits, and finds the row, because removed tenants stay for history. So
// whoever gives a tenant something holds the tenant first, and counts the rows behind the lock.

const holdTenantsSQL = `
SELECT id::text FROM headgate.tenants WHERE id = ANY ($1::text[]::uuid[]) AND status <> 'removed' ORDER BY id FOR KEY SHARE`

// HoldTenantsTx keeps tenants, by their UUIDs, from being removed or getting other slugs until
// tx ends. No other change of them waits. The error matches jobs.ErrUnknownTenant if one of
// them has been removed, also in the moment before.
func (c *Catalog) HoldTenantsTx(ctx context.Context, tx pgx.Tx, ids ...string) error {
	return holdAll(ctx, tx, holdTenantsSQL, "tenant", ids)
}

const holdSlugsSQL = `SELECT slug FROM headgate.tenants WHERE slug = ANY ($1) ORDER BY id FOR KEY SHARE`

// HoldSlugsTx is HoldTenantsTx for slugs. The error matches jobs.ErrUnknownTenant also if one
// of the slugs is nobody's any more.
func (c *Catalog) HoldSlugsTx(ctx context.Context, tx pgx.Tx, slugs ...string) error {
	return holdAll(ctx, tx, holdSlugsSQL, "slug", slugs)
}

// holdAll runs a statement that locks rows and returns their keys, and refuses a key without a
// row.
func holdAll(ctx context.Context, tx pgx.Tx, sql, what string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, sql, keys) // its error is CollectRows' too
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("holding the %s %s: %w", what, someOf(keys), err)
	}
	var gone []string
	for _, key := range keys {
		if !slices.Contains(found, key) {
			gone = append(gone, key)
		}
	}
	if len(gone) > 0 {
		return fmt.Errorf("%w: no tenant has the %s %s, or not any more: `headgate tenant list` shows them; nothing was changed", jobs.ErrUnknownTenant, map[string]string{"slug": "slug", "tenant": "UUID"}[what], someOf(gone))
	}
	return nil
}

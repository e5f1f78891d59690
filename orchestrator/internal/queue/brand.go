package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// missingBrandSQL finds the first of these brands that its tenant does not have.
const missingBrandSQL = `
SELECT w.i, coalesce(t.slug, w.tenant::text), w.brand
FROM unnest($1::int[], $2::text[]::uuid[], $3::int[]) AS w (i, tenant, brand)
LEFT JOIN headgate.tenants t ON t.id = w.tenant
WHERE NOT EXISTS (SELECT FROM headgate.brands b WHERE b.tenant_id = w.tenant AND b.brand_id = w.brand)
ORDER BY w.i LIMIT 1`

// checkBrands refuses jobs for brands that their tenants do not have. Drafts that have none
// cost no query.
func checkBrands(ctx context.Context, tx pgx.Tx, items []Draft) error {
	type pair struct {
		tenant string
		brand  int
	}
	seen := map[pair]bool{}
	var at, brands []int
	var tenants []string
	for i, it := range items {
		if it.Meta.Brand == nil {
			continue
		}
		if p := (pair{it.Meta.Tenant, *it.Meta.Brand}); !seen[p] {
			seen[p] = true
			at, tenants, brands = append(at, i), append(tenants, p.tenant), append(brands, p.brand)
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	var i, brand int
	var tenant string
	err := tx.QueryRow(ctx, missingBrandSQL, at, tenants, brands).Scan(&i, &tenant, &brand)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("looking for brands: %w", err)
	}
	return atIndex(UnknownBrand(tenant, brand), i, len(items))
}

// UnknownBrand says that a tenant, known by its slug, does not have a brand.
func UnknownBrand(tenant string, brand int) error {
	return fmt.Errorf("%w: tenant %s has no brand %d: `headgate tenant brand list %[2]s` shows those that it has; without a brand a job is of all brands", jobs.ErrUnknownBrand, tenant, brand)
}

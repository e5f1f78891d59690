package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// missingBrandSQL finds one of these brands that its tenant does not have.
const missingBrandSQL = `
SELECT w.tenant::text, w.brand
FROM unnest($1::text[]::uuid[], $2::int[]) AS w (tenant, brand)
WHERE NOT EXISTS (SELECT FROM headgate.brands b WHERE b.tenant_id = w.tenant AND b.brand_id = w.brand)
LIMIT 1`

// checkBrands refuses jobs for brands that their tenants do not have. Drafts that have none
// cost no query.
func checkBrands(ctx context.Context, tx pgx.Tx, items []Draft) error {
	var tenants []string
	var brands []int
	type pair struct {
		tenant string
		brand  int
	}
	seen := map[pair]bool{}
	for _, it := range items {
		if it.Meta.Brand == nil {
			continue
		}
		if p := (pair{it.Meta.Tenant, *it.Meta.Brand}); !seen[p] {
			seen[p] = true
			tenants, brands = append(tenants, p.tenant), append(brands, p.brand)
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	var tenant string
	var brand int
	err := tx.QueryRow(ctx, missingBrandSQL, tenants, brands).Scan(&tenant, &brand)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("looking for brands: %w", err)
	}
	return fmt.Errorf("%w: tenant %s has no brand %d; leave the brand out for a job of all brands", jobs.ErrUnknownBrand, tenant, brand)
}

// CheckBrand refuses a draft, whose tenant is known by its UUID, for a brand that the
// tenant does not have.
func CheckBrand(ctx context.Context, tx pgx.Tx, it Draft) error {
	return checkBrands(ctx, tx, []Draft{it})
}

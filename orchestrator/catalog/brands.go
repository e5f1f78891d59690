package catalog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

const maxBrand = 9999

// Brand is a subdivision of a tenant.
type Brand struct {
	Tenant     string `json:"tenant"`       // slug
	BrandID    int    `json:"brand_id"`     // 0 to 9999, the tenant's own numbers
	OrgBrandID int64  `json:"org_brand_id"` // org_id * 10000 + brand_id: tells the brands of all tenants apart
	Name       string `json:"name"`         // for people, 1 to 200 characters
}

// Brands are the brands of the catalog's tenants. It is safe for concurrent use.
type Brands struct{ c *Catalog }

// Brands returns the catalog's brands.
func (c *Catalog) Brands() Brands { return Brands{c} }

// Set adds a brand of a tenant or gives it another name. Errors match
// jobs.ErrUnknownTenant or are a *jobs.InputError.
func (b Brands) Set(ctx context.Context, tenant string, id int, name string) (Brand, error) {
	return b.set(ctx, b.c.pool, tenant, id, name)
}

// SetTx is Set in the caller's transaction.
func (b Brands) SetTx(ctx context.Context, tx pgx.Tx, tenant string, id int, name string) (Brand, error) {
	return b.set(ctx, tx, tenant, id, name)
}

const brandSetSQL = `
INSERT INTO headgate.brands (tenant_id, org_id, brand_id, name)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, brand_id) DO UPDATE SET name = excluded.name
RETURNING org_brand_id`

func (b Brands) set(ctx context.Context, db beginner, tenant string, id int, name string) (Brand, error) {
	brand, err := within(ctx, db, func(tx pgx.Tx) (brand Brand, err error) {
		if id < 0 || id > maxBrand {
			return brand, jobs.Inputf("brand_id", strconv.Itoa(id), "give 0 to %d", maxBrand)
		}
		if name == "" {
			return brand, jobs.Missing("name", "the brand's name, for people")
		}
		if err := jobs.CheckValue("name", name, maxText); err != nil {
			return brand, err
		}
		tenants, err := lockTenants(ctx, tx, []string{tenant})
		if err != nil {
			return brand, err
		}
		brand = Brand{Tenant: tenants[0].Slug, BrandID: id, Name: name}
		return brand, tx.QueryRow(ctx, brandSetSQL, tenants[0].ID, tenants[0].OrgID, id, name).Scan(&brand.OrgBrandID)
	})
	if err != nil {
		return Brand{}, fmt.Errorf("set brand %d of tenant %s: %w", id, shown(tenant), err)
	}
	return brand, nil
}

const brandsSQL = `
SELECT t.slug, b.brand_id, b.org_brand_id, b.name
FROM headgate.brands b JOIN headgate.tenants t ON t.id = b.tenant_id
WHERE b.tenant_id = $1 AND b.brand_id > $2
ORDER BY b.brand_id
LIMIT $3`

// List returns a tenant's brands by their numbers, 200 or up to 10,000 a page, and the
// After of the next page ("" if nothing follows). Errors match jobs.ErrUnknownTenant.
func (b Brands) List(ctx context.Context, tenant string, page jobs.Page) (brands []Brand, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	behind := -1
	if err == nil && page.After != "" {
		if behind, err = strconv.Atoi(page.After); err != nil {
			err = page.Unknown()
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("list brands: %w", err)
	}
	found, err := tenantByName(ctx, b.c.pool, tenant)
	if err != nil {
		return nil, "", fmt.Errorf("list brands: %w", err)
	}
	rows, _ := b.c.pool.Query(ctx, brandsSQL, found.ID, behind, limit+1) // its error is CollectRows' too
	if brands, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Brand]); err != nil {
		return nil, "", fmt.Errorf("list brands: %w", err)
	}
	brands, next = jobs.CutPage(brands, limit, func(b Brand) string { return strconv.Itoa(b.BrandID) })
	return brands, next, nil
}

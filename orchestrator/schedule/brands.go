package schedule

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// A schedule may be limited to one brand of its tenant, which it refers to by a foreign key
// (schedules_brand). A template gives its schedule to those of the selected tenants that have
// its brand, and to others once they get the brand.

const holdBrandSQL = `
SELECT b.brand_id FROM headgate.brands b JOIN headgate.tenants t ON t.id = b.tenant_id
WHERE t.slug = $1 AND b.brand_id = $2 FOR KEY SHARE OF b`

// holdBrand keeps a brand from being removed until tx ends, for a schedule that is limited
// to it. The error matches jobs.ErrUnknownBrand.
func holdBrand(ctx context.Context, tx pgx.Tx, tenant string, brand *int) error {
	if brand == nil {
		return nil
	}
	switch err := tx.QueryRow(ctx, holdBrandSQL, tenant, *brand).Scan(nil); {
	case errors.Is(err, pgx.ErrNoRows):
		return queue.UnknownBrand(tenant, *brand)
	case err != nil:
		return fmt.Errorf("keeping brand %d of tenant %s: %w", *brand, tenant, err)
	}
	return nil
}

// editedBrand is holdBrand for a schedule whose brand is changed. A brand that it has already
// is there, because the schedule refers to it.
func editedBrand(ctx context.Context, tx pgx.Tx, before, after *Schedule) error {
	if after.Brand == nil || before.Brand != nil && *before.Brand == *after.Brand {
		return nil
	}
	if after.Tenant == "" {
		return jobs.Inputf("brand", strconv.Itoa(*after.Brand), "kind %s works on a whole database: give no brand", after.Kind)
	}
	return holdBrand(ctx, tx, after.Tenant, after.Brand)
}

// holdTemplateBrandsSQL comes before the statement that gives tenants their schedules, which
// then sees no brand that goes.
const holdTemplateBrandsSQL = `
SELECT FROM headgate.brands b JOIN headgate.fleets f ON f.brand_id = b.brand_id
WHERE f.id = ANY ($1) ORDER BY b.tenant_id, b.brand_id FOR KEY SHARE OF b`

// Lacking is the tenants that a template selects, and that lack its brand.
type Lacking struct {
	Tenants int      `json:"tenants"`
	First   []string `json:"first"` // five slugs at most, by name
}

const lackingSQL = `
SELECT count(*), coalesce((array_agg(x.slug ORDER BY x.slug))[1:5], '{}')
FROM headgate.fleets f CROSS JOIN LATERAL headgate.selected_of_brand(f.selection, f.brand_id) x
WHERE f.name = $1 AND x.lacks_brand`

// readLacking is nil for a template that no selected tenant lacks the brand of.
func readLacking(ctx context.Context, tx pgx.Tx, template *Template) error {
	if template.Brand == nil {
		return nil
	}
	var lacking Lacking
	if err := tx.QueryRow(ctx, lackingSQL, template.Name).Scan(&lacking.Tenants, &lacking.First); err != nil {
		return fmt.Errorf("looking for tenants without brand %d: %w", *template.Brand, err)
	}
	if lacking.Tenants > 0 {
		template.Lacking = &lacking
	}
	return nil
}

// Warning says it in a sentence, and what to do. brand is the template's.
func (l *Lacking) Warning(brand int) string {
	names := strings.Join(l.First, ", ")
	if more := l.Tenants - len(l.First); more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d of the selected tenants lack brand %d and get the schedule once they have the brand: %s; `headgate tenant brand set SLUG %[2]d BRAND_NAME` gives it", l.Tenants, brand, names)
}

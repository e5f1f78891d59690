package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Remove takes a brand out. Rows that bear its number stay, and so do jobs that wait. Errors
// match jobs.ErrUnknownTenant, jobs.ErrUnknownBrand, and ErrReferred while a schedule is
// limited to the brand.
func (b Brands) Remove(ctx context.Context, tenant string, id int) error {
	return b.remove(ctx, b.c.pool, tenant, id)
}

// RemoveTx is Remove in the caller's transaction.
func (b Brands) RemoveTx(ctx context.Context, tx pgx.Tx, tenant string, id int) error {
	return b.remove(ctx, tx, tenant, id)
}

// lockBrandSQL waits for who is limiting a schedule to the brand. Nobody begins to after it.
const lockBrandSQL = `SELECT b.brand_id FROM headgate.brands b WHERE b.tenant_id = $1 AND b.brand_id = $2 FOR UPDATE`

const brandDeleteSQL = `DELETE FROM headgate.brands WHERE tenant_id = $1 AND brand_id = $2`

func (b Brands) remove(ctx context.Context, db beginner, tenant string, id int) error {
	_, err := within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		found, err := tenantByName(ctx, tx, tenant)
		if err != nil {
			return none, err
		}
		switch err := tx.QueryRow(ctx, lockBrandSQL, found.ID, id).Scan(nil); {
		case errors.Is(err, pgx.ErrNoRows):
			return none, fmt.Errorf("%w %d: `headgate tenant brand list %s` shows them", jobs.ErrUnknownBrand, id, found.Slug)
		case err != nil:
			return none, err
		}
		if err := refuseLimited(ctx, tx, found.ID, found.Slug, id); err != nil {
			return none, err
		}
		_, err = tx.Exec(ctx, brandDeleteSQL, found.ID, id)
		return none, err
	})
	if err != nil {
		return fmt.Errorf("remove brand %d of tenant %s: %w", id, shown(tenant), err)
	}
	return nil
}

// limitedSQL is the schedules that are limited to a brand: how many, and of the first their
// names, and of a template its selector and file.
const limitedSQL = `
SELECT s.name, s.fleet_id IS NOT NULL, coalesce(f.selector, ''), coalesce(f.managed_by, ''), count(*) OVER ()
FROM headgate.schedules s LEFT JOIN headgate.fleets f ON f.id = s.fleet_id
WHERE s.tenant_id = $1 AND s.brand_id = $2
ORDER BY s.name LIMIT $3`

// refuseLimited is an error that names the schedules which are limited to a brand, and says
// what to do with the first of the tenant's own and the first of a template.
func refuseLimited(ctx context.Context, tx pgx.Tx, tenant, slug string, brand int) error {
	var names []string
	var own, shared string // what to do
	var name, selector, file string
	var template bool
	var count int
	rows, _ := tx.Query(ctx, limitedSQL, tenant, brand, maxReferring) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&name, &template, &selector, &file, &count}, func() error {
		switch {
		case !template && own == "":
			own = fmt.Sprintf("`headgate schedule edit %s --tenant %s --brand all` makes it one of all brands, `headgate schedule delete %[1]s --tenant %[2]s` removes it", name, slug)
		case template && shared == "" && file != "":
			shared = fmt.Sprintf("%s comes from the file %s: take tenant %s out of its selector there, and `headgate schedule apply` it", name, file, slug)
		case template && shared == "":
			shared = fmt.Sprintf("`headgate schedule edit %s --template --select '%s'` takes the tenant out of the template's", name, strings.ReplaceAll(without(selector, slug), "'", `'\''`))
		}
		names = append(names, name)
		return nil
	})
	if err != nil || count == 0 {
		return err
	}
	said := fmt.Sprintf("%d schedules are limited to it: %s", count, strings.Join(names, ", "))
	if count == 1 {
		said = "a schedule is limited to it: " + name
	} else if more := count - len(names); more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	for _, next := range []string{own, shared} {
		if next != "" {
			said += "; " + next
		}
	}
	return &sentenceError{sentence: said, is: ErrReferred}
}

// without is a selector of the same tenants but one.
func without(selector, slug string) string {
	if selector == "all" {
		return "tenant != " + slug
	}
	return "(" + selector + ") and tenant != " + slug
}

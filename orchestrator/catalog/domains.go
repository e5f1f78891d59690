package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// The kinds of domain.
const (
	DomainSubdomain = "subdomain" // below a domain of the SaaS
	DomainCustom    = "custom"    // the tenant's own
)

// Add makes a domain resolve to a tenant (named by slug, UUID or org_id) at once.
// [CheckDomain] says which domains a tenant may have, and in what form they are stored.
// Errors match jobs.ErrUnknownTenant, ErrExists if the domain is taken, or are a
// *jobs.InputError.
//
// Nothing checks that the domain is the tenant's to use: whoever calls Add vouches
// that it is. For a domain that a tenant has typed in, use [Domains.Claim]; claims of
// others do not stand in Add's way.
func (d *Domains) Add(ctx context.Context, tenant, domain, kind string) error {
	defer d.catalog.memory.drop() // what was unknown may be known
	return d.catalog.addDomain(ctx, d.catalog.pool, tenant, domain, kind)
}

// AddTx is Add in the caller's transaction.
func (d *Domains) AddTx(ctx context.Context, tx pgx.Tx, tenant, domain, kind string) error {
	return d.catalog.addDomain(ctx, tx, tenant, domain, kind)
}

func (c *Catalog) addDomain(ctx context.Context, db beginner, tenant, domain, kind string) error {
	canonical, err := CheckDomain("domain", domain, kind)
	if err != nil {
		return fmt.Errorf("add domain: %w", err)
	}
	if kind != DomainSubdomain && kind != DomainCustom {
		return fmt.Errorf("add domain: %w", jobs.Inputf("kind", kind, "give subdomain or custom"))
	}
	_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		return none, insertDomain(ctx, tx, tenant, canonical, domainInsertSQL, kind)
	})
	if err != nil {
		return fmt.Errorf("add domain: %w", err)
	}
	return nil
}

const domainInsertSQL = `
WITH claimed AS (DELETE FROM headgate.domain_claims WHERE domain = $1 AND tenant_id = $2)
INSERT INTO headgate.tenant_domains (domain, tenant_id, kind)
VALUES ($1, $2, $3)
ON CONFLICT (domain) DO NOTHING`

// insertDomain holds the tenant's row, so that whoever removes the tenant meanwhile comes
// before, or finds the domain.
func insertDomain(ctx context.Context, tx pgx.Tx, tenant, domain, sql string, more ...any) error {
	found, err := tenantByName(ctx, tx, tenant)
	if err != nil {
		return err
	}
	if tag, err := tx.Exec(ctx, claimantSQL, found.ID); err != nil {
		return err
	} else if tag.RowsAffected() == 0 {
		return removed(found)
	}
	tag, err := tx.Exec(ctx, sql, append([]any{domain, found.ID}, more...)...)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return existsf(nil, "domain %q is taken already", domain)
	}
	return nil
}

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

// AddDomain makes a domain resolve to a tenant (named by slug, UUID or org_id).
// The domain is stored in canonical form: lower case, without port and trailing
// dot, letters beyond ASCII in punycode. Errors match jobs.ErrUnknownTenant,
// ErrExists if the domain is taken, or are a *jobs.InputError. Nothing checks that the
// domain is the tenant's to use.
func (c *Catalog) AddDomain(ctx context.Context, tenant, domain, kind string) error {
	defer c.memory.drop() // what was unknown may be known
	return c.addDomain(ctx, c.pool, tenant, domain, kind)
}

// AddDomainTx is AddDomain in the caller's transaction.
func (c *Catalog) AddDomainTx(ctx context.Context, tx pgx.Tx, tenant, domain, kind string) error {
	return c.addDomain(ctx, tx, tenant, domain, kind)
}

func (c *Catalog) addDomain(ctx context.Context, db beginner, tenant, domain, kind string) error {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return fmt.Errorf("add domain: %w", jobs.Inputf("domain", domain, "it %v", err))
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
INSERT INTO headgate.tenant_domains (domain, tenant_id, kind)
VALUES ($1, $2, $3)
ON CONFLICT (domain) DO NOTHING`

func insertDomain(ctx context.Context, tx pgx.Tx, tenant, domain, sql string, more ...any) error {
	found, err := tenantByName(ctx, tx, tenant)
	if err != nil {
		return err
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

// AddEmailDomain makes e-mail addresses at a domain mean a tenant, for
// ResolveEmail. Its form and the errors are those of AddDomain. Do not give a
// domain that anybody can have an address at.
func (c *Catalog) AddEmailDomain(ctx context.Context, tenant, domain string) error {
	defer c.memory.drop()
	return c.addEmailDomain(ctx, c.pool, tenant, domain)
}

// AddEmailDomainTx is AddEmailDomain in the caller's transaction.
func (c *Catalog) AddEmailDomainTx(ctx context.Context, tx pgx.Tx, tenant, domain string) error {
	return c.addEmailDomain(ctx, tx, tenant, domain)
}

const emailInsertSQL = `
INSERT INTO headgate.tenant_emails (domain, tenant_id)
VALUES ($1, $2)
ON CONFLICT (domain) DO NOTHING`

func (c *Catalog) addEmailDomain(ctx context.Context, db beginner, tenant, domain string) error {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return fmt.Errorf("add e-mail domain: %w", jobs.Inputf("domain", domain, "it %v", err))
	}
	_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		return none, insertDomain(ctx, tx, tenant, canonical, emailInsertSQL)
	})
	if err != nil {
		return fmt.Errorf("add e-mail domain: %w", err)
	}
	return nil
}

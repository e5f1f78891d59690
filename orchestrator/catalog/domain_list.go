package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// DomainFilter says which domains and claims to list. The zero value lists the first 200.
type DomainFilter struct {
	Tenant string // slug, UUID or org_id; "" means any
	Domain string // exactly; "" means any

	jobs.Page // Limit is 200, at most 10,000
}

// Two lists in one: domains that resolve, and claims. Each walks its index.
const domainsSQL = `
SELECT d.domain, t.slug, t.id::text, d.kind, d.verified_at, d.proof, d.verified_by, d.reason, '', d.token, d.created_at
FROM (
    (SELECT domain, tenant_id, kind, verified_at, proof, verified_by, reason, '' AS token, created_at
     FROM headgate.tenant_domains
     WHERE ($1::uuid IS NULL OR tenant_id = $1) AND ($2 = '' OR domain = $2) AND (domain, tenant_id) > ($3, $4)
     ORDER BY domain, tenant_id LIMIT $5)
    UNION ALL
    (SELECT domain, tenant_id, 'custom', NULL, '', '', '', token, created_at
     FROM headgate.domain_claims
     WHERE ($1::uuid IS NULL OR tenant_id = $1) AND ($2 = '' OR domain = $2) AND (domain, tenant_id) > ($3, $4)
     ORDER BY domain, tenant_id LIMIT $5)
) d
JOIN headgate.tenants t ON t.id = d.tenant_id
ORDER BY d.domain, d.tenant_id
LIMIT $5`

// List returns the domains that filter asks for and the claims to such, by domain, and the
// After of the next page ("" if nothing follows). Errors match jobs.ErrUnknownTenant, or
// are a *jobs.InputError.
func (d *Domains) List(ctx context.Context, filter DomainFilter) (domains []Domain, next string, err error) {
	limit, err := filter.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list domains: %w", err)
	}
	id, err := d.tenantID(ctx, filter.Tenant)
	if err != nil {
		return nil, "", fmt.Errorf("list domains: %w", err)
	}
	domain := ""
	if filter.Domain != "" {
		if domain, err = canonicalDomain(filter.Domain); err != nil {
			return nil, "", fmt.Errorf("list domains: %w", jobs.Inputf("domain", filter.Domain, "it %v", err))
		}
	}
	after, afterID, err := readDomainCursor(filter.Page)
	if err != nil {
		return nil, "", fmt.Errorf("list domains: %w", err)
	}
	domains, err = domainRows(ctx, d.catalog.pool, id, domain, after, afterID, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list domains: %w", err)
	}
	domains, next = jobs.CutPage(domains, limit, func(d Domain) string { return d.Domain + "," + d.TenantID })
	return domains, next, nil
}

// GetTx returns a tenant's domain, or its claim to the domain, as the caller's transaction sees
// it. Errors match jobs.ErrUnknownTenant or ErrUnknownDomain, or are a *jobs.InputError.
func (d *Domains) GetTx(ctx context.Context, tx pgx.Tx, tenant, domain string) (Domain, error) {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return Domain{}, fmt.Errorf("get domain: %w", jobs.Inputf("domain", domain, "it %v", err))
	}
	found, err := tenantByName(ctx, tx, tenant)
	if err != nil {
		return Domain{}, fmt.Errorf("get domain: %w", err)
	}
	return domainOf(ctx, tx, canonical, found)
}

func readDomainCursor(page jobs.Page) (domain string, tenant uuid.UUID, err error) {
	if page.After == "" {
		return "", uuid.Nil, nil
	}
	domain, text, _ := strings.Cut(page.After, ",")
	if tenant, err = uuid.Parse(text); err != nil {
		return "", uuid.Nil, page.Unknown()
	}
	return domain, tenant, nil
}

func domainRows(ctx context.Context, db querier, tenant *uuid.UUID, domain, after string, afterID uuid.UUID, limit int) ([]Domain, error) {
	rows, err := db.Query(ctx, domainsSQL, planned, tenant, domain, after, afterID, limit)
	if err != nil {
		return nil, err
	}
	domains, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Domain])
	for i := range domains {
		if domains[i].Token != "" {
			domains[i].Record = recordPrefix + domains[i].Domain
		}
	}
	return domains, err
}

// domainOf returns a tenant's domain, or its claim, or an error that matches
// ErrUnknownDomain.
func domainOf(ctx context.Context, db querier, domain string, tenant Tenant) (Domain, error) {
	id := uuid.MustParse(tenant.ID)
	domains, err := domainRows(ctx, db, &id, domain, "", uuid.Nil, 1)
	switch {
	case err != nil:
		return Domain{}, fmt.Errorf("find domain %q: %w", domain, err)
	case len(domains) == 0:
		return Domain{}, unknownDomain(domain, tenant)
	}
	return domains[0], nil
}

func unknownDomain(domain string, tenant Tenant) error {
	return fmt.Errorf("%w: tenant %s neither has nor claims %q; `headgate tenant domain list %s` shows those", ErrUnknownDomain, tenant.Slug, domain, tenant.Slug)
}

// tenantID returns the UUID of a tenant, or nil for "".
func (d *Domains) tenantID(ctx context.Context, name string) (*uuid.UUID, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // no tenant is asked for
	}
	found, err := tenantByName(ctx, d.catalog.pool, name)
	if err != nil {
		return nil, err
	}
	id := uuid.MustParse(found.ID)
	return &id, nil
}

// Remove makes a domain mean the tenant no more, or takes its claim back. Another tenant
// may have the domain from then on. Errors match jobs.ErrUnknownTenant or ErrUnknownDomain,
// or are a *jobs.InputError.
func (d *Domains) Remove(ctx context.Context, tenant, domain string) error {
	id, err := d.remove(ctx, d.catalog.pool, tenant, domain)
	d.catalog.memory.changed(err, id)
	return err
}

// RemoveTx is Remove in the caller's transaction.
func (d *Domains) RemoveTx(ctx context.Context, tx pgx.Tx, tenant, domain string) error {
	_, err := d.remove(ctx, tx, tenant, domain)
	return err
}

const (
	claimDeleteSQL  = `DELETE FROM headgate.domain_claims WHERE domain = $1 AND tenant_id = $2`
	domainDeleteSQL = `DELETE FROM headgate.tenant_domains WHERE domain = $1 AND tenant_id = $2`
)

// remove deletes the claim first: a verification that has the claim in hand is waited for,
// and the second statement sees the domain that it has made.
func (d *Domains) remove(ctx context.Context, db beginner, tenant, domain string) (id string, err error) {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return "", fmt.Errorf("remove domain: %w", jobs.Inputf("domain", domain, "it %v", err))
	}
	id, err = within(ctx, db, func(tx pgx.Tx) (string, error) {
		found, err := tenantByName(ctx, tx, tenant)
		if err != nil {
			return "", err
		}
		claim, claimErr := tx.Exec(ctx, claimDeleteSQL, canonical, found.ID)
		owned, err := tx.Exec(ctx, domainDeleteSQL, canonical, found.ID)
		if err = errors.Join(claimErr, err); err == nil && claim.RowsAffected()+owned.RowsAffected() == 0 {
			err = unknownDomain(canonical, found)
		}
		return found.ID, err
	})
	if err != nil {
		return "", fmt.Errorf("remove domain: %w", err)
	}
	return id, nil
}

package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Domains is the domains of tenants: those that resolve, and claims to domains that have
// yet to be verified.
//
//	Claim ──▶ claim, with a token ──Verify──▶ domain, which resolves
//	               │                             ▲
//	               └──Remove                     └── Add: whoever calls it vouches
//
// A claim resolves nothing, and keeps nobody from the domain: several tenants may claim
// one, and the first that is verified has it. It is safe for concurrent use.
type Domains struct{ catalog *Catalog }

// Domains returns the domains of the catalog's tenants.
func (c *Catalog) Domains() *Domains { return &Domains{c} }

// The ways in which a domain was found to be its tenant's.
const (
	ProofGiven    = "given"    // whoever entered the domain vouched for it
	ProofDNS      = "dns"      // the DNS had the claim's token
	ProofOperator = "operator" // verified without the DNS, for a reason
)

// Domain is a domain of a tenant, or a claim to one.
type Domain struct {
	Domain     string     `json:"domain"`
	Tenant     string     `json:"tenant"` // the slug
	TenantID   string     `json:"tenant_id"`
	Kind       string     `json:"kind"`                  // subdomain or custom
	VerifiedAt *time.Time `json:"verified_at"`           // nil: a claim, which resolves nothing
	Proof      string     `json:"proof,omitempty"`       // given, dns or operator; "" of a claim
	VerifiedBy string     `json:"verified_by,omitempty"` // who, where somebody said so
	Reason     string     `json:"reason,omitempty"`      // why without proof
	Record     string     `json:"record,omitempty"`      // of a claim: the TXT record that has to hold the token
	Token      string     `json:"token,omitempty"`       // of a claim
	CreatedAt  time.Time  `json:"created_at"`
}

const (
	recordPrefix = "_headgate."

	// maxClaims bounds what a tenant may claim at a time, because tenants claim by
	// themselves.
	maxClaims = 100
)

// Claim notes that a tenant (named by slug, UUID or org_id) says that a domain is its own.
// The domain does not resolve before Verify. The claim's Token goes into the TXT record
// that Record names. A claim that is there already is returned as it is. A tenant has at
// most 100 claims at a time. Errors match jobs.ErrUnknownTenant, ErrExists if the domain
// resolves to a tenant already, or are a *jobs.InputError.
func (d *Domains) Claim(ctx context.Context, tenant, domain string) (Domain, error) {
	return d.claim(ctx, d.catalog.pool, tenant, domain)
}

// ClaimTx is Claim in the caller's transaction, which holds the tenant's row until it ends.
func (d *Domains) ClaimTx(ctx context.Context, tx pgx.Tx, tenant, domain string) (Domain, error) {
	return d.claim(ctx, tx, tenant, domain)
}

// claimantSQL lets the claims of one tenant take turns, so that they can be counted.
const claimantSQL = `
SELECT 1
FROM headgate.tenants
WHERE id = $1 AND status <> 'removed'
FOR NO KEY UPDATE`

const claimInsertSQL = `
INSERT INTO headgate.domain_claims (domain, tenant_id, token)
SELECT $1, $2, $3
WHERE (SELECT count(*) FROM headgate.domain_claims WHERE tenant_id = $2) < $4
ON CONFLICT (domain, tenant_id) DO NOTHING`

func (d *Domains) claim(ctx context.Context, db beginner, tenant, domain string) (Domain, error) {
	canonical, err := CheckDomain("domain", domain, DomainCustom)
	if err == nil && len(canonical) > maxDomain-len(recordPrefix) {
		err = jobs.Inputf("domain", domain, "it is too long for a TXT record before it; at most %d characters are allowed", maxDomain-len(recordPrefix))
	}
	if err != nil {
		return Domain{}, fmt.Errorf("claim domain: %w", err)
	}
	claimed, err := within(ctx, db, func(tx pgx.Tx) (Domain, error) {
		found, err := tenantByName(ctx, tx, tenant)
		if err != nil {
			return Domain{}, err
		}
		switch tag, err := tx.Exec(ctx, claimantSQL, found.ID); {
		case err != nil:
			return Domain{}, err
		case tag.RowsAffected() == 0:
			return Domain{}, removed(found)
		}
		if owner, err := domainOwner(ctx, tx, canonical); err != nil || owner != uuid.Nil {
			return Domain{}, taken(err, canonical, owner, found)
		}
		if _, err := tx.Exec(ctx, claimInsertSQL, canonical, found.ID, rand.Text(), maxClaims); err != nil {
			return Domain{}, err
		}
		claim, err := domainOf(ctx, tx, canonical, found)
		if errors.Is(err, ErrUnknownDomain) {
			err = jobs.Inputf("domain", domain, "tenant %s claims %d domains already: verify or remove some of them first (`headgate tenant domain list %s`)", found.Slug, maxClaims, found.Slug)
		}
		return claim, err
	})
	if err != nil {
		return Domain{}, fmt.Errorf("claim domain: %w", err)
	}
	return claimed, nil
}

func removed(tenant Tenant) error {
	return removedf("tenant %s was removed", tenant.Slug)
}

// taken is the refusal of a domain that resolves already. It does not name another tenant,
// because a tenant may read it.
func taken(err error, domain string, owner uuid.UUID, tenant Tenant) error {
	switch {
	case err != nil:
		return err
	case owner.String() == tenant.ID:
		return existsf(nil, "domain %q is tenant %s's already, and needs no verification", domain, tenant.Slug)
	}
	return existsf(nil, "domain %q is taken already, by another tenant", domain)
}

const domainOwnerSQL = `
SELECT tenant_id
FROM headgate.tenant_domains
WHERE domain = $1`

// domainOwner returns the tenant that a domain resolves to, uuid.Nil if there is none.
func domainOwner(ctx context.Context, db rowQuerier, domain string) (owner uuid.UUID, err error) {
	err = db.QueryRow(ctx, domainOwnerSQL, domain).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return owner, err
}

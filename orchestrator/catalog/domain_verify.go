package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// TXTResolver asks the DNS. *net.Resolver satisfies it.
//
// LookupTXT returns the TXT records of a name that ends with a dot, as soon as ctx ends at
// the latest. Where there is none the error is a *net.DNSError with IsNotFound.
type TXTResolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Verification says how a claim is verified. The zero value asks the system's DNS.
type Verification struct {
	// DNS is asked for the token. nil means net.DefaultResolver.
	DNS TXTResolver

	// Timeout bounds the question. 0 means 5 s; at most 1 minute.
	Timeout time.Duration

	// WithoutProof verifies without asking the DNS. It needs a Reason.
	WithoutProof bool
	Reason       string // at most 500 characters, for the record

	// DryRun asks the DNS, and undoes the verification when it is done: what is returned would
	// have become of the claim.
	DryRun bool

	// Actor is who verifies, for the record: at most 200 characters.
	Actor string
}

func (v Verification) checked() (Verification, error) {
	if v.DNS == nil {
		v.DNS = net.DefaultResolver
	}
	v.Timeout = cmp.Or(v.Timeout, 5*time.Second)
	switch {
	case v.Timeout < 0 || v.Timeout > time.Minute:
		return v, jobs.Inputf("timeout", v.Timeout.String(), "give up to 1m, or 0 for 5s")
	case v.WithoutProof && strings.TrimSpace(v.Reason) == "":
		return v, jobs.Missing("reason", "why the domain counts although the DNS was not asked")
	case !v.WithoutProof && v.Reason != "":
		return v, jobs.Inputf("reason", v.Reason, "a reason goes with a verification without proof")
	}
	return v, cmp.Or(jobs.CheckText("reason", v.Reason, 500), jobs.CheckText("actor", v.Actor, 200))
}

// Verify makes a tenant's claim to a domain count: it resolves from then on. It asks the
// DNS for the claim's token, within Timeout and in no transaction. A domain of the tenant's
// that resolves already is returned as it is.
//
// Errors match jobs.ErrUnknownTenant, ErrUnknownDomain if the tenant claims no such domain,
// ErrNotVerified if the DNS does not have the token, ErrExists if another tenant was
// first, hold a *net.DNSError if the DNS does not answer, or are a *jobs.InputError. The
// claim stays in all of these cases.
func (d *Domains) Verify(ctx context.Context, tenant, domain string, v Verification) (Domain, error) {
	defer d.catalog.memory.drop() // what was unknown may be known
	return d.verify(ctx, d.catalog.pool, tenant, domain, v)
}

// VerifyTx is Verify in the caller's transaction, which stays open while the DNS is asked.
// Nothing is locked before the DNS has answered.
func (d *Domains) VerifyTx(ctx context.Context, tx pgx.Tx, tenant, domain string, v Verification) (Domain, error) {
	return d.verify(ctx, tx, tenant, domain, v)
}

// database reads, and begins transactions: a pool and a transaction both do.
type database interface {
	beginner
	querier
}

func (d *Domains) verify(ctx context.Context, db database, tenant, domain string, v Verification) (Domain, error) {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return Domain{}, fmt.Errorf("verify domain: %w", jobs.Inputf("domain", domain, "it %v", err))
	}
	if v, err = v.checked(); err != nil {
		return Domain{}, fmt.Errorf("verify domain: %w", err)
	}
	found, err := tenantByName(ctx, db, tenant)
	if err != nil {
		return Domain{}, fmt.Errorf("verify domain: %w", err)
	}
	known, err := domainOf(ctx, db, canonical, found)
	if err != nil || known.VerifiedAt != nil {
		return known, err
	}
	if !v.WithoutProof {
		if err := v.prove(ctx, known); err != nil {
			return Domain{}, err
		}
	}
	verified, err := within(ctx, db, func(tx pgx.Tx) (Domain, error) {
		if err := admit(ctx, tx, known, found, v); err != nil {
			return Domain{}, fmt.Errorf("verify domain: %w", err)
		}
		verified, err := domainOf(ctx, tx, canonical, found)
		if err == nil && v.DryRun {
			err = central.Undo(ctx, tx)
		}
		return verified, err
	})
	return verified, central.Undone(err)
}

// prove looks for the claim's token in the DNS. The dot at the name's end keeps resolvers
// from looking below domains of their own.
func (v Verification) prove(ctx context.Context, claim Domain) error {
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	values, err := v.DNS.LookupTXT(ctx, claim.Record+".")
	var failed *net.DNSError
	next := fmt.Sprintf("set the TXT record %s to %s, wait until the DNS has it, and run `headgate tenant domain verify %s %s` again", claim.Record, claim.Token, claim.Tenant, claim.Domain)
	switch {
	case errors.As(err, &failed) && failed.IsNotFound:
		return fmt.Errorf("%w: the DNS has no TXT record %s; %s", ErrNotVerified, claim.Record, next)
	case err != nil:
		return fmt.Errorf("verify domain: asking the DNS for the TXT record %s: %w", claim.Record, err)
	case !slices.ContainsFunc(values, func(value string) bool { return strings.TrimSpace(value) == claim.Token }):
		return fmt.Errorf("%w: the TXT record %s holds something else than the token (%s); %s", ErrNotVerified, claim.Record, jobs.Count(len(values), "value"), next)
	}
	return nil
}

const claimTakeSQL = `
DELETE FROM headgate.domain_claims
WHERE domain = $1 AND tenant_id = $2 AND token = $3`

// verifiedInsertSQL holds the tenant's row: whoever removes the tenant meanwhile comes
// before, so that nothing is inserted, or finds the domain.
const verifiedInsertSQL = `
INSERT INTO headgate.tenant_domains (domain, tenant_id, kind, proof, verified_by, reason)
SELECT $1, t.id, 'custom', $3, $4, $5
FROM headgate.tenants t
WHERE t.id = $2 AND t.status <> 'removed'
FOR KEY SHARE
ON CONFLICT (domain) DO NOTHING`

// admit turns a claim into a domain, unless somebody else was first: another tenant with
// the domain, or another run with the claim.
func admit(ctx context.Context, tx pgx.Tx, claim Domain, tenant Tenant, v Verification) error {
	proof := ProofDNS
	if v.WithoutProof {
		proof = ProofOperator
	}
	took, err := tx.Exec(ctx, claimTakeSQL, claim.Domain, tenant.ID, claim.Token)
	if err != nil {
		return err
	}
	if took.RowsAffected() > 0 {
		tag, err := tx.Exec(ctx, verifiedInsertSQL, claim.Domain, tenant.ID, proof, v.Actor, v.Reason)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
	}
	switch owner, err := domainOwner(ctx, tx, claim.Domain); {
	case err != nil:
		return err
	case owner.String() == tenant.ID:
		return nil // another run was first
	case owner != uuid.Nil:
		return taken(nil, claim.Domain, owner, tenant)
	case took.RowsAffected() > 0:
		return removed(tenant)
	}
	return unknownDomain(claim.Domain, tenant)
}

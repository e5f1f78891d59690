package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The kinds of domain.
const (
	DomainSubdomain = "subdomain" // below a domain of the SaaS
	DomainCustom    = "custom"    // the tenant's own
)

// AddDomain makes a domain resolve to a tenant (named by slug, UUID or org_id).
// The domain is stored in canonical form: lower case, without port and trailing
// dot. One with letters beyond ASCII is given in punycode. Errors match jobs.ErrUnknownTenant, ErrExists if the domain is taken, or
// are an *InputError. Nothing checks that the domain is the tenant's to use.
func (c *Catalog) AddDomain(ctx context.Context, tenant, domain, kind string) error {
	return c.addDomain(ctx, c.pool, tenant, domain, kind)
}

// AddDomainTx is AddDomain in the caller's transaction.
func (c *Catalog) AddDomainTx(ctx context.Context, tx pgx.Tx, tenant, domain, kind string) error {
	return c.addDomain(ctx, tx, tenant, domain, kind)
}

func (c *Catalog) addDomain(ctx context.Context, db beginner, tenant, domain, kind string) error {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return fmt.Errorf("add domain: %w", inputf("domain", "%s %w", quote(domain), err))
	}
	if kind != DomainSubdomain && kind != DomainCustom {
		return fmt.Errorf("add domain: %w", inputf("kind", "%s is not subdomain or custom", quote(kind)))
	}
	_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		return none, insertDomain(ctx, tx, tenant, canonical, kind)
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

func insertDomain(ctx context.Context, tx pgx.Tx, tenant, domain, kind string) error {
	found, err := tenantByName(ctx, tx, tenant)
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, domainInsertSQL, domain, found.ID, kind)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return existsf(nil, "domain %q is taken already", domain)
	}
	return nil
}

const maxDomain = 253

// canonicalDomain returns a host, as it stands in a Host header, in the form in
// which domains are stored and compared: no port, no trailing dot, lower case.
func canonicalDomain(host string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(cutPort(host), "."))
	switch {
	case name == "":
		return "", errors.New("is empty")
	case len(name) > maxDomain:
		return "", fmt.Errorf("is too long; at most %d characters are allowed", maxDomain)
	case strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }):
		return "", errors.New("holds letters beyond ASCII: give its punycode form (xn--…), as browsers send it")
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "", errors.New("is an IP address, not a domain name")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isDomainLabel(label) {
			return "", errors.New("is not a domain name")
		}
	}
	return name, nil
}

func isDomainLabel(label string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	return label != "" && len(label) <= 63 && strings.Trim(label, "-") != "" &&
		label[0] != '-' && label[len(label)-1] != '-' &&
		!strings.ContainsFunc(label, func(r rune) bool { return !strings.ContainsRune(letters, r) })
}

// cutPort takes :8443 off the end. A colon that no port follows stays, and is
// refused as part of the name.
func cutPort(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || i+1 == len(host) || strings.Trim(host[i+1:], "0123456789") != "" || len(host)-i > len(":65535") {
		return host
	}
	return host[:i]
}

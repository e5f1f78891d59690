package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// ResolveHost answers a request: which tenant has the domain that a Host header
// names. Case, port and a trailing dot do not matter, and letters beyond ASCII
// mean their punycode; nothing else is let go, in particular is a host below a
// tenant's domain not the tenant's.
//
// It answers from memory, usually in less than a microsecond and without a query; [Memory]
// says how old an answer may be. Errors match jobs.ErrNoTenant for "",
// jobs.ErrUnknownTenant, jobs.ErrTenantMoving, jobs.ErrTenantSuspended for every
// other status than active (with the tenant beside these two), or ErrUnavailable.
func (c *Catalog) ResolveHost(ctx context.Context, host string) (Tenant, error) {
	if host == "" {
		return Tenant{}, fmt.Errorf("%w: the host is empty", jobs.ErrNoTenant)
	}
	domain, err := canonicalDomain(host)
	if err != nil {
		return Tenant{}, fmt.Errorf("%w: host %s %w", jobs.ErrUnknownTenant, shown(host), err)
	}
	return c.lookUp(ctx, question{by: byDomain, name: domain}, "domain", domain)
}

// ResolveEmail is ResolveHost for an e-mail address, or what stands behind its @:
// which tenant has that domain, exactly (see Domains.AddEmail).
func (c *Catalog) ResolveEmail(ctx context.Context, email string) (Tenant, error) {
	if email == "" {
		return Tenant{}, fmt.Errorf("%w: the e-mail address is empty", jobs.ErrNoTenant)
	}
	host := email[strings.LastIndexByte(email, '@')+1:]
	domain, err := canonicalDomain(host)
	if err != nil || strings.Contains(host, ":") {
		return Tenant{}, fmt.Errorf("%w: there is no domain in the e-mail address", jobs.ErrUnknownTenant)
	}
	return c.lookUp(ctx, question{by: byEmail, name: domain}, "e-mail domain", domain)
}

// ResolveName is ResolveHost for a slug, UUID or org_id.
func (c *Catalog) ResolveName(ctx context.Context, name string) (Tenant, error) {
	if name == "" {
		return Tenant{}, fmt.Errorf("%w: the name is empty", jobs.ErrNoTenant)
	}
	q := question{by: bySlug, name: name}
	if id, ok := fit.UUID(name); ok {
		q = question{by: byUUID, id: id}
	} else if name[0] <= '9' { // a slug begins with a letter
		if _, ok := parseOrgID(name); !ok {
			return Tenant{}, fmt.Errorf("%w: no tenant has the %s %s", jobs.ErrUnknownTenant, anyName, shown(name))
		}
		q.by = byOrgID
	} else if !namePatternWhole.MatchString(name) {
		return Tenant{}, fmt.Errorf("%w: no tenant has the %s %s", jobs.ErrUnknownTenant, anyName, shown(name))
	}
	return c.lookUp(ctx, q, anyName, name)
}

const anyName = "slug, UUID or org_id"

func (c *Catalog) lookUp(ctx context.Context, q question, what, name string) (Tenant, error) {
	a, err := c.remembered(ctx, q)
	switch {
	case err != nil:
		return Tenant{}, fmt.Errorf("resolve %s %s: %w", what, shown(name), err)
	case !a.known:
		return Tenant{}, fmt.Errorf("%w: no tenant has the %s %s", jobs.ErrUnknownTenant, what, shown(name))
	}
	return a.own(), a.tenant.mayWork()
}

const rememberedFields = tenantFields + ", t.id, coalesce(d.id, t.id), coalesce(s.id, t.id), " + versionFields

// One tenant each, by a unique index.
const (
	rememberBySlugSQL   = `SELECT ` + rememberedFields + `, '0'::xid` + tenantRows + `WHERE t.slug = $1`
	rememberByUUIDSQL   = `SELECT ` + rememberedFields + `, '0'::xid` + tenantRows + `WHERE t.id = $1`
	rememberByOrgIDSQL  = `SELECT ` + rememberedFields + `, '0'::xid` + tenantRows + `WHERE t.org_id = $1`
	rememberByDomainSQL = `SELECT ` + rememberedFields + `, n.xmin` + tenantRows + `JOIN headgate.tenant_domains n ON n.tenant_id = t.id WHERE n.domain = $1`
	rememberByEmailSQL  = `SELECT ` + rememberedFields + `, n.xmin` + tenantRows + `JOIN headgate.tenant_emails n ON n.tenant_id = t.id WHERE n.domain = $1`
)

// query is the one that answers a request's question.
func (q question) query() (sql string, arg any) {
	switch q.by {
	case byUUID:
		return rememberByUUIDSQL, q.id
	case byOrgID:
		orgID, _ := parseOrgID(q.name) // it was one when the question was made
		return rememberByOrgIDSQL, orgID
	case byDomain:
		return rememberByDomainSQL, q.name
	case byEmail:
		return rememberByEmailSQL, q.name
	}
	return rememberBySlugSQL, q.name
}

// askTenant asks who a tenant is.
func (c *Catalog) askTenant(ctx context.Context, q question) (*answer, error) {
	var a answer
	sql, arg := q.query()
	err := c.pool.QueryRow(ctx, sql, arg).Scan(slices.Concat(a.tenant.targets(), []any{&a.ids[0], &a.ids[1], &a.ids[2]}, a.versions.targets(), []any{&a.versions.name})...)
	if errors.Is(err, pgx.ErrNoRows) {
		return &answer{}, nil
	}
	if err != nil {
		return nil, err
	}
	a.known = true
	return &a, nil
}

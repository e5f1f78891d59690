package tenanthttp

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// By finds the tenant of a request with the resolver's help. The errors are those
// of Resolver. Beside the ones here an application may write its own: from a
// token's claim, for one.
//
// r is a copy that the handlers behind get. By may replace its URL, as ByPath does, and
// must write into nothing that r points at.
type By func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error)

// ByHost goes by the request's Host, which must be a domain of the tenant, exactly:
// not by X-Forwarded-Host, which any client may send.
//
// own are hosts of the application itself, such as app.example.com, at which requests of
// all tenants arrive. They name no tenant, so that something else of the request must
// (see FirstOf). ByHost panics if one of them is no domain.
func ByHost(own ...string) By {
	ours := make([]string, len(own))
	for i, host := range own {
		name, err := catalog.CanonicalDomain(host)
		if err != nil {
			panic(fmt.Sprintf("tenanthttp.ByHost: %v", err))
		}
		ours[i] = name
	}
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		if len(ours) > 0 {
			if name, err := catalog.CanonicalDomain(r.Host); err == nil && slices.Contains(ours, name) {
				return catalog.Tenant{}, fmt.Errorf("%w: host %s is the application's own", jobs.ErrNoTenant, name)
			}
		}
		return resolver.ResolveHost(ctx, r.Host)
	}
}

// ByHeader goes by a header that holds the tenant's slug, UUID or org_id, once. Any client
// may send it: the proxy in front must set or delete it, or Opts.Check must hold.
func ByHeader(name string) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		switch values := r.Header.Values(name); {
		case len(values) > 1:
			return catalog.Tenant{}, fmt.Errorf("%w: header %s is given %d times", errAmbiguous, name, len(values))
		case len(values) == 0 || values[0] == "":
			return catalog.Tenant{}, fmt.Errorf("%w: header %s is missing", jobs.ErrNoTenant, name)
		default:
			return resolver.ResolveName(ctx, values[0])
		}
	}
}

// ByPath goes by the part of the path behind a prefix that begins and ends with a slash:
// with "/t/", the path /t/acme/invoices is for the tenant with the slug, UUID or org_id
// acme. The handlers behind see the path /invoices, as behind http.StripPrefix, and / for
// /t/acme alone. A redirect of theirs must put the prefix back.
func ByPath(prefix string) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		rest, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
		segment, rest, _ := strings.Cut(rest, "/")
		name, err := url.PathUnescape(segment)
		if !ok || err != nil || name == "" {
			return catalog.Tenant{}, fmt.Errorf("%w: the path does not begin with %s and a tenant", jobs.ErrNoTenant, prefix)
		}
		tenant, err := resolver.ResolveName(ctx, name)
		if err == nil {
			behind := *r.URL
			behind.Path = "/" + strings.TrimPrefix(r.URL.Path[len(prefix)+len(name):], "/")
			if behind.RawPath != "" {
				behind.RawPath = "/" + rest
			}
			r.URL = &behind
		}
		return tenant, err
	}
}

// ByPathValue goes by a wildcard of the pattern that an http.ServeMux has matched
// (http.Request.PathValue): the middleware stands behind the mux. The path stays as it is.
func ByPathValue(wildcard string) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		name := r.PathValue(wildcard)
		if name == "" {
			return catalog.Tenant{}, fmt.Errorf("%w: the path has no {%s}", jobs.ErrNoTenant, wildcard)
		}
		return resolver.ResolveName(ctx, name)
	}
}

// ByEmail goes by the domain of an e-mail address: the one that login says the request's
// user has signed in with, and has been verified to have. login returns "" for a request
// of nobody. It must never be an address that a client just sends.
func ByEmail(login func(r *http.Request) (email string, err error)) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		email, err := login(r)
		switch {
		case err != nil:
			return catalog.Tenant{}, fmt.Errorf("finding the login of the request: %w", err)
		case email == "":
			return catalog.Tenant{}, fmt.Errorf("%w: nobody has signed in", jobs.ErrNoTenant)
		}
		return resolver.ResolveEmail(ctx, email)
	}
}

package tenanthttp

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// By finds the tenant of a request with the resolver's help. The errors are those
// of Resolver. Beside the ones here an application may write its own: from a
// token's claim, for one.
type By func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error)

// ByHost goes by the request's Host, which must be a domain of the tenant, exactly:
// not by X-Forwarded-Host, which any client may send.
func ByHost() By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		return resolver.ResolveHost(ctx, r.Host)
	}
}

// ByHeader goes by a header that holds the tenant's slug, UUID or org_id, once.
func ByHeader(name string) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		switch values := r.Header.Values(name); {
		case len(values) > 1:
			return catalog.Tenant{}, fmt.Errorf("%w: header %s is given %d times", jobs.ErrNoTenant, name, len(values))
		case len(values) == 0 || values[0] == "":
			return catalog.Tenant{}, fmt.Errorf("%w: header %s is missing", jobs.ErrNoTenant, name)
		default:
			return resolver.ResolveName(ctx, values[0])
		}
	}
}

// ByPath goes by the part of the path behind a prefix: with "/t/", the path
// /t/acme/invoices is for the tenant with the slug, UUID or org_id acme. The path
// stays as it is.
func ByPath(prefix string) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (catalog.Tenant, error) {
		rest, ok := strings.CutPrefix(r.URL.Path, prefix)
		name, _, _ := strings.Cut(rest, "/")
		if !ok || name == "" {
			return catalog.Tenant{}, fmt.Errorf("%w: the path does not begin with %s and a tenant", jobs.ErrNoTenant, prefix)
		}
		return resolver.ResolveName(ctx, name)
	}
}

package tenanthttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// ErrMismatch: the request names two tenants, or Opts.Check refused it.
var ErrMismatch = jobs.Sentinel("tenant_mismatch", "the request names another tenant")

// errAmbiguous is of a request that names a tenant in a way that can be read twice.
var errAmbiguous = fmt.Errorf("%w that is certain", jobs.ErrNoTenant)

// FirstOf asks all in order. The first that names a tenant decides, and each further one
// that names a tenant has to name the same: else the error matches ErrMismatch, also where
// the other tenant does not exist, so that nobody can find out which do.
//
//	tenanthttp.FirstOf(tenanthttp.ByHost("app.example.com"), tenanthttp.ByPath("/t/"))
//
// Put first what the client cannot choose freely.
func FirstOf(bys ...By) By {
	return func(ctx context.Context, resolver Resolver, r *http.Request) (found catalog.Tenant, foundErr error) {
		foundErr = fmt.Errorf("%w: nothing of the request names one", jobs.ErrNoTenant)
		named := false
		for _, by := range bys {
			tenant, err := by(ctx, resolver, r)
			switch {
			case errors.Is(err, jobs.ErrNoTenant) && !errors.Is(err, errAmbiguous):
			case !answered(err):
				return catalog.Tenant{}, err
			case !named && errors.Is(err, jobs.ErrUnknownTenant):
				return catalog.Tenant{}, err
			case !named:
				named, found, foundErr = true, tenant, err
			case tenant.ID != found.ID:
				return catalog.Tenant{}, fmt.Errorf("%w than %q in another place", ErrMismatch, found.Slug)
			}
		}
		return found, foundErr
	}
}

// answered reports whether it was found out which tenant is meant, if any.
func answered(err error) bool {
	return err == nil || errors.Is(err, jobs.ErrUnknownTenant) || errors.Is(err, jobs.ErrTenantSuspended) || errors.Is(err, jobs.ErrTenantMoving)
}

// Same returns nil if name is a tenant's UUID, slug or org_id, and else an error that
// matches ErrMismatch, also for "". It is for Opts.Check, with what a verified token says:
//
//	Check: func(r *http.Request, t catalog.Tenant) error { return tenanthttp.Same(t, claims(r).Tenant) }
//
// A token should have the UUID, because a slug can change.
func Same(tenant catalog.Tenant, name string) error {
	if name != "" && (strings.EqualFold(name, tenant.ID) || name == tenant.Slug || name == strconv.FormatInt(tenant.OrgID, 10)) {
		return nil
	}
	return fmt.Errorf("%w than tenant %s", ErrMismatch, tenant.Slug)
}

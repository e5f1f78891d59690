package jobs

import (
	"context"
	"fmt"
)

// Tenant is one customer of the SaaS, an organisation, as the catalog knows it.
type Tenant struct {
	ID       string            `json:"id"`       // UUID; never changes
	Slug     string            `json:"slug"`     // short unique name, [a-z][a-z0-9-]{0,62}; may change
	OrgID    int64             `json:"org_id"`   // the value of the org_id columns in shared tables
	OrgKey   string            `json:"org_key"`  // the value of such columns that are text or uuid: OrgID in digits, unless the catalog has another
	Name     string            `json:"name"`     // for people
	Plan     string            `json:"plan"`     // the pricing plan's name, "freemium" or "enterprise" in the examples
	Timezone string            `json:"timezone"` // IANA name, "UTC" if not set
	Labels   map[string]string `json:"labels"`   // free labels, for selectors
	Features Features          `json:"features"` // what the tenant has: its own values, else its plan's, else the defaults; see Feature
}

// Errors that say why a tenant's work cannot be taken or done. They come
// wrapped in a sentence that names the tenant; test with errors.Is.
var (
	// ErrNoTenant: neither an argument nor the context names a tenant.
	ErrNoTenant = Sentinel("no_tenant", "no tenant given")

	// ErrUnknownTenant: no tenant has this slug, UUID or org_id.
	ErrUnknownTenant = Sentinel("unknown_tenant", "unknown tenant")

	// ErrTenantSuspended: the tenant is suspended or archived; no work is
	// accepted for it.
	ErrTenantSuspended = Sentinel("tenant_suspended", "tenant is suspended")

	// ErrTenantMoving: the tenant's rows are being moved to another database;
	// its work is accepted and waits.
	ErrTenantMoving = Sentinel("tenant_moving", "tenant is being moved")

	// ErrFeatureOff: the kind, or the schedule, needs a feature that is not true for the
	// tenant. Jobs that wait already are held until it is.
	ErrFeatureOff = Sentinel("feature_off", "feature is off")

	// ErrKindNotAllowed: neither the tenant nor its plan has the kind.
	ErrKindNotAllowed = Sentinel("kind_not_allowed", "kind is not allowed")

	// ErrUnknownDatabase: no database of the catalog has this name or UUID.
	ErrUnknownDatabase = Sentinel("unknown_database", "unknown database")

	// ErrDatabaseDetached: the database is being moved or restored; its work is accepted
	// and waits.
	ErrDatabaseDetached = Sentinel("database_detached", "database is detached")
)

type tenantKey struct{}

// WithTenant returns a context that carries the name of the tenant (slug, UUID
// or org_id) on whose behalf the caller acts. orchestrator.Client.Enqueue falls
// back on it, and a handler's context carries its job's tenant.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

// TenantFrom returns the tenant that ctx carries, or [ErrNoTenant].
func TenantFrom(ctx context.Context) (string, error) {
	if name, _ := ctx.Value(tenantKey{}).(string); name != "" {
		return name, nil
	}
	return "", fmt.Errorf("%w: pass one, or use a context made by jobs.WithTenant", ErrNoTenant)
}

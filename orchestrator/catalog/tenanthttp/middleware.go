package tenanthttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Resolver finds tenants. *catalog.Catalog satisfies it.
//
// They are called for each request, by many goroutines at once. Errors match
// jobs.ErrNoTenant for "", jobs.ErrUnknownTenant, jobs.ErrTenantSuspended or
// jobs.ErrTenantMoving; any other error means that it could not be found out.
type Resolver interface {
	ResolveHost(ctx context.Context, host string) (catalog.Tenant, error)
	ResolveName(ctx context.Context, name string) (catalog.Tenant, error)
	ResolveEmail(ctx context.Context, email string) (catalog.Tenant, error)
}

// Opts are choices. nil, or the zero value of a field, means the default.
type Opts struct {
	// By says what of a request names its tenant. The default is ByHost.
	By By

	// Check says whether the request may be for the tenant that was found: by the tenant
	// that its verified token or session is for (see Same). An error refuses the request
	// with 403. It is called by many goroutines at once. nil means that every request may.
	Check func(r *http.Request, tenant catalog.Tenant) error

	// Refuse writes the answer to a request that has no tenant to go on with. nil
	// means WriteRefusal.
	Refuse func(w http.ResponseWriter, r *http.Request, refusal Refusal)

	// RetryAfter is when a client should ask again that was refused for a reason
	// that passes, in whole seconds. 0 means 5 s.
	RetryAfter time.Duration

	// Logger is told why the catalog could not be asked. nil means slog.Default().
	Logger *slog.Logger
}

// Middleware puts tenants into contexts. It is safe for concurrent use.
type Middleware struct {
	resolver Resolver
	opts     Opts
}

// New returns a middleware that asks the resolver, usually the catalog.
func New(resolver Resolver, opts *Opts) *Middleware {
	m := &Middleware{resolver: resolver}
	if opts != nil {
		m.opts = *opts
	}
	if m.opts.By == nil {
		m.opts.By = ByHost()
	}
	if m.opts.Refuse == nil {
		m.opts.Refuse = WriteRefusal
	}
	m.opts.RetryAfter = cmp.Or(m.opts.RetryAfter, 5*time.Second)
	m.opts.Logger = cmp.Or(m.opts.Logger, slog.Default())
	return m
}

// Wrap returns a handler that calls next with the tenant in the request's context,
// or answers the request itself. next finds the tenant by Tenant; where a tenant
// may be given by name, as in orchestrator.Client.Enqueue, "" means it.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		behind := r.WithContext(r.Context()) // a copy, whose URL By may replace
		tenant, err := m.opts.By(r.Context(), m.resolver, behind)
		if err == nil && m.opts.Check != nil {
			if err = m.opts.Check(r, tenant); err != nil {
				tenant, err = catalog.Tenant{}, fmt.Errorf("%w: %w", ErrMismatch, err)
			}
		}
		if err != nil {
			m.refuse(w, r, tenant, err)
			return
		}
		next.ServeHTTP(w, behind.WithContext(With(r.Context(), tenant)))
	})
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, tenant catalog.Tenant, err error) {
	refusal := refusalOf(err, tenant, m.opts.RetryAfter)
	if refusal.Status == http.StatusServiceUnavailable && !errors.Is(err, context.Canceled) { // of a client that has gone
		m.opts.Logger.WarnContext(r.Context(), "a request's tenant could not be found out", "host", r.Host, "error", err)
	}
	m.opts.Refuse(w, r, refusal)
}

type tenantKey struct{}

// With returns a context that carries the tenant, also for those who know it by
// name only (jobs.WithTenant, by its UUID). Wrap uses it; tests of handlers may.
func With(ctx context.Context, tenant catalog.Tenant) context.Context {
	return context.WithValue(jobs.WithTenant(ctx, tenant.ID), tenantKey{}, tenant)
}

// Tenant returns the tenant of the request that ctx comes from, and whether there
// is one. Its Labels are the request's own.
func Tenant(ctx context.Context) (catalog.Tenant, bool) {
	tenant, ok := ctx.Value(tenantKey{}).(catalog.Tenant)
	return tenant, ok
}

package tenanthttp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/tenanthttp"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// greet answers with the tenant that the context carries, both ways.
var greet = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	tenant, ok := tenanthttp.Tenant(r.Context())
	name, err := jobs.TenantFrom(r.Context())
	if !ok || err != nil || name != tenant.ID {
		http.Error(w, "no tenant in the context", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, tenant.Slug)
})

func setup(t *testing.T) *jobstest.Env {
	t.Helper()
	env := jobstest.New(t)
	env.Database("shared", jobstest.DatabaseOpts{})
	for slug, status := range map[string]catalog.Status{
		"acme": catalog.Active, "slow": catalog.Suspended, "gone": catalog.Archived, "new": catalog.Provisioning, "truck": catalog.Moving,
	} {
		env.Tenant(slug, "shared")
		require.NoError(t, env.Catalog.Domains().Add(t.Context(), slug, slug+".example.com", catalog.DomainSubdomain))
		require.NoError(t, env.Catalog.SetStatus(t.Context(), slug, status))
	}
	return env
}

func request(t *testing.T, target string, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func answer(m *tenanthttp.Middleware, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.Wrap(greet).ServeHTTP(w, r)
	return w
}

func TestEachRequestFindsItsTenant(t *testing.T) {
	t.Parallel()
	env := setup(t)
	acme, err := env.Catalog.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	byHost := tenanthttp.New(env.Catalog, nil)
	byHeader := tenanthttp.New(env.Catalog, &tenanthttp.Opts{By: tenanthttp.ByHeader("X-Tenant")})
	byPath := tenanthttp.New(env.Catalog, &tenanthttp.Opts{By: tenanthttp.ByPath("/t/")})
	hostless := request(t, "/")
	hostless.Host = ""
	for name, c := range map[string]struct {
		m      *tenanthttp.Middleware
		r      *http.Request
		status int
		body   string
		retry  string
	}{
		"host":                      {byHost, request(t, "http://acme.example.com/x"), 200, "acme", ""},
		"host, port, case and dot":  {byHost, request(t, "http://ACME.example.com.:8080/x"), 200, "acme", ""},
		"no host":                   {byHost, hostless, 400, "The request does not say which tenant it is for.\n", ""},
		"unknown host":              {byHost, request(t, "http://nobody.example.com/"), 404, "There is no such tenant.\n", ""},
		"below a tenant's domain":   {byHost, request(t, "http://x.acme.example.com/"), 404, "There is no such tenant.\n", ""},
		"an address":                {byHost, request(t, "http://[::1]:80/"), 404, "There is no such tenant.\n", ""},
		"forwarded host is no host": {byHost, request(t, "http://nobody.example.com/", "X-Forwarded-Host", "acme.example.com"), 404, "There is no such tenant.\n", ""},
		"suspended":                 {byHost, request(t, "http://slow.example.com/"), 423, "This tenant is suspended.\n", ""},
		"archived":                  {byHost, request(t, "http://gone.example.com/"), 423, "This tenant is suspended.\n", ""},
		"provisioning":              {byHost, request(t, "http://new.example.com/"), 423, "This tenant is suspended.\n", ""},
		"moving":                    {byHost, request(t, "http://truck.example.com/"), 423, "This tenant is being moved; try again shortly.\n", "5"},
		"as JSON": {byHost, request(t, "http://truck.example.com/", "Accept", "application/json"), 423,
			`{"error":{"code":"tenant_moving","message":"This tenant is being moved; try again shortly."}}` + "\n", "5"},
		"header":          {byHeader, request(t, "/", "x-tenant", "acme"), 200, "acme", ""},
		"header, UUID":    {byHeader, request(t, "/", "X-Tenant", strings.ToUpper(acme.ID)), 200, "acme", ""},
		"no header":       {byHeader, request(t, "http://acme.example.com/"), 400, "The request does not say which tenant it is for.\n", ""},
		"empty header":    {byHeader, request(t, "/", "X-Tenant", ""), 400, "The request does not say which tenant it is for.\n", ""},
		"two headers":     {byHeader, request(t, "/", "X-Tenant", "acme", "X-Tenant", "slow"), 400, "The request does not say which tenant it is for.\n", ""},
		"unknown header":  {byHeader, request(t, "/", "X-Tenant", "acme.example.com"), 404, "There is no such tenant.\n", ""},
		"path":            {byPath, request(t, "/t/acme/invoices"), 200, "acme", ""},
		"path, end":       {byPath, request(t, "/t/acme"), 200, "acme", ""},
		"path, none":      {byPath, request(t, "/t/"), 400, "The request does not say which tenant it is for.\n", ""},
		"path, elsewhere": {byPath, request(t, "/x/acme"), 400, "The request does not say which tenant it is for.\n", ""},
		"path, suspended": {byPath, request(t, "/t/slow/x"), 423, "This tenant is suspended.\n", ""},
	} {
		w := answer(c.m, c.r)
		require.Equal(t, c.status, w.Code, name)
		require.Equal(t, c.body, w.Body.String(), name)
		require.Equal(t, c.retry, w.Header().Get("Retry-After"), name)
		if c.status != 200 {
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"), name)
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), name)
		}
	}
}

// away is a catalog that cannot be asked.
type away struct{ err error }

func (a away) ResolveHost(context.Context, string) (catalog.Tenant, error) {
	return catalog.Tenant{}, a.err
}
func (a away) ResolveName(context.Context, string) (catalog.Tenant, error) {
	return catalog.Tenant{}, a.err
}
func (a away) ResolveEmail(context.Context, string) (catalog.Tenant, error) {
	return catalog.Tenant{}, a.err
}

// While the catalog is away a request is told to come again, and nothing of why.
func TestTheCatalogIsAway(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	m := tenanthttp.New(away{errors.New("dial db.internal:5432: refused")}, &tenanthttp.Opts{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w := answer(m, request(t, "http://acme.example.com/"))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "It cannot be found out now which tenant this is; try again shortly.\n", w.Body.String())
	require.Equal(t, "5", w.Header().Get("Retry-After"))
	require.Contains(t, log.String(), "db.internal")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	log.Reset()
	answer(tenanthttp.New(away{gone.Err()}, nil), request(t, "http://acme.example.com/").WithContext(gone))
	require.Empty(t, log.String())
}

// An application may answer in its own words, and find the tenant in its own way.
func TestAnApplicationsOwn(t *testing.T) {
	t.Parallel()
	env := setup(t)
	m := tenanthttp.New(env.Catalog, &tenanthttp.Opts{
		By: func(ctx context.Context, resolver tenanthttp.Resolver, r *http.Request) (catalog.Tenant, error) {
			return resolver.ResolveName(ctx, r.URL.Query().Get("tenant"))
		},
		Refuse: func(w http.ResponseWriter, _ *http.Request, refusal tenanthttp.Refusal) {
			w.WriteHeader(refusal.Status)
			_, _ = io.WriteString(w, refusal.Tenant.Slug+" "+refusal.Code)
		},
	})
	require.Equal(t, "acme", answer(m, request(t, "/?tenant=acme")).Body.String())
	require.Equal(t, "slow tenant_suspended", answer(m, request(t, "/?tenant=slow")).Body.String())
	require.Equal(t, " no_tenant", answer(m, request(t, "/")).Body.String())
}

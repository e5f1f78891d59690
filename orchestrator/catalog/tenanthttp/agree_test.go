package tenanthttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/tenanthttp"
)

const (
	missing  = "The request does not say which tenant it is for.\n"
	unknown  = "There is no such tenant.\n"
	mismatch = "The request is not for this tenant.\n"
	locked   = "This tenant is suspended.\n"
)

// login is the verified login of a test's request.
func login(r *http.Request) (string, error) {
	if r.Header.Get("X-Login") == "broken" {
		return "", errors.New("the session store is away")
	}
	return r.Header.Get("X-Login"), nil
}

// Whatever of a request names a tenant has to name the same.
func TestTenantsOfOneRequestAgree(t *testing.T) {
	t.Parallel()
	env := setup(t)
	env.Tenant("bolt", "shared")
	require.NoError(t, env.Catalog.Domains().Add(t.Context(), "bolt", "bolt.example.com", catalog.DomainSubdomain))
	require.NoError(t, env.Catalog.Domains().AddEmail(t.Context(), "acme", "acme.example"))
	all := tenanthttp.New(env.Catalog, &tenanthttp.Opts{By: tenanthttp.FirstOf(
		tenanthttp.ByHost("App.example.com."), tenanthttp.ByPath("/t/"), tenanthttp.ByEmail(login), tenanthttp.ByHeader("X-Tenant"))})
	byEmail := tenanthttp.New(env.Catalog, &tenanthttp.Opts{By: tenanthttp.ByEmail(login)})
	for name, c := range map[string]struct {
		m      *tenanthttp.Middleware
		r      *http.Request
		status int
		body   string
	}{
		"host alone":                  {all, request(t, "http://acme.example.com/x"), 200, "acme"},
		"own host, path":              {all, request(t, "http://app.example.com:8080/t/acme/x"), 200, "acme"},
		"own host, login":             {all, request(t, "http://app.example.com/", "X-Login", "ines@acme.example"), 200, "acme"},
		"own host, header":            {all, request(t, "http://app.example.com/", "X-Tenant", "bolt"), 200, "bolt"},
		"own host, nothing":           {all, request(t, "http://app.example.com/"), 400, missing},
		"all agree":                   {all, request(t, "http://acme.example.com/t/acme/", "X-Login", "i@acme.example", "X-Tenant", "acme"), 200, "acme"},
		"host and path differ":        {all, request(t, "http://acme.example.com/t/bolt/"), 403, mismatch},
		"host and login differ":       {all, request(t, "http://bolt.example.com/", "X-Login", "i@acme.example"), 403, mismatch},
		"host and header differ":      {all, request(t, "http://acme.example.com/", "X-Tenant", "bolt"), 403, mismatch},
		"path and header differ":      {all, request(t, "http://app.example.com/t/acme/", "X-Tenant", "bolt"), 403, mismatch},
		"the other does not exist":    {all, request(t, "http://acme.example.com/", "X-Tenant", "nobody"), 403, mismatch},
		"the other is suspended":      {all, request(t, "http://acme.example.com/", "X-Tenant", "slow"), 403, mismatch},
		"a suspended one, a good one": {all, request(t, "http://slow.example.com/", "X-Tenant", "acme"), 403, mismatch},
		"a suspended one, agreed":     {all, request(t, "http://slow.example.com/", "X-Tenant", "slow"), 423, locked},
		"unknown host, a good header": {all, request(t, "http://nobody.example.com/", "X-Tenant", "acme"), 404, unknown},
		"a header twice is no header": {all, request(t, "http://acme.example.com/", "X-Tenant", "acme", "X-Tenant", "bolt"), 400, missing},
		"the session store is away":   {all, request(t, "http://acme.example.com/", "X-Login", "broken"), 503, "It cannot be found out now which tenant this is; try again shortly.\n"},
		"login":                       {byEmail, request(t, "/", "X-Login", "Ines@ACME.example"), 200, "acme"},
		"login below the domain":      {byEmail, request(t, "/", "X-Login", "ines@x.acme.example"), 404, unknown},
		"nobody has signed in":        {byEmail, request(t, "/"), 400, missing},
		"an unknown domain's login":   {byEmail, request(t, "/", "X-Login", "ines@bolt.example"), 404, unknown},
		"two at signs":                {byEmail, request(t, "/", "X-Login", "ines@acme.example@bolt.example"), 404, unknown},
		"an address as e-mail's host": {byEmail, request(t, "/", "X-Login", "ines@[127.0.0.1]"), 404, unknown},
	} {
		w := answer(c.m, c.r)
		require.Equal(t, c.status, w.Code, name)
		require.Equal(t, c.body, w.Body.String(), name)
	}
	w := answer(all, request(t, "http://acme.example.com/t/bolt/", "Accept", "application/json"))
	require.JSONEq(t, `{"error": {"code": "tenant_mismatch", "message": "The request is not for this tenant."}}`, w.Body.String())
	require.PanicsWithValue(t, `tenanthttp.ByHost: host "10.0.0.1": it is an IP address, not a domain name`, func() { tenanthttp.ByHost("10.0.0.1") })
}

// What a client may send counts for nothing unless the application asks for it.
func TestNothingButTheHostCountsByDefault(t *testing.T) {
	t.Parallel()
	env := setup(t)
	m := tenanthttp.New(env.Catalog, nil)
	r := request(t, "http://nobody.example.com/t/acme/?tenant=acme&slug=acme", "X-Tenant", "acme", "X-Tenant-Id", "acme", "X-Forwarded-Host", "acme.example.com",
		"Forwarded", "host=acme.example.com", "X-Original-Host", "acme.example.com", "Origin", "http://acme.example.com", "From", "ines@acme.example.com")
	require.Equal(t, http.StatusNotFound, answer(m, r).Code)
}

// The tenant of the host must be that of the token.
func TestTheTokensTenantIsChecked(t *testing.T) {
	t.Parallel()
	env := setup(t)
	acme, err := env.Catalog.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	var refused error
	m := tenanthttp.New(env.Catalog, &tenanthttp.Opts{
		Check: func(r *http.Request, tenant catalog.Tenant) error {
			return tenanthttp.Same(tenant, r.Header.Get("Token"))
		},
		Refuse: func(w http.ResponseWriter, r *http.Request, refusal tenanthttp.Refusal) {
			refused = refusal.Err
			tenanthttp.WriteRefusal(w, r, refusal)
		},
	})
	for token, status := range map[string]int{
		acme.ID: 200, strings.ToUpper(acme.ID): 200, "acme": 200, strconv.FormatInt(acme.OrgID, 10): 200,
		"": 403, "slow": 403, "Acme": 403, "acme\t": 403, "0": 403, "nobody": 403,
	} {
		refused = nil
		w := answer(m, request(t, "http://acme.example.com/", "Token", token))
		require.Equal(t, status, w.Code, token)
		if status == 403 {
			require.Equal(t, mismatch, w.Body.String())
			require.ErrorIs(t, refused, tenanthttp.ErrMismatch)
		}
	}
	require.Equal(t, 404, answer(m, request(t, "http://nobody.example.com/", "Token", acme.ID)).Code)
}

// Handlers behind ByPath see the path without the tenant, as behind http.StripPrefix.
func TestThePathIsStripped(t *testing.T) {
	t.Parallel()
	env := setup(t)
	m := tenanthttp.New(env.Catalog, &tenanthttp.Opts{By: tenanthttp.ByPath("/t/")})
	show := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" "+r.URL.RawPath+" "+r.URL.RawQuery)
	})
	for target, want := range map[string]string{
		"/t/acme/invoices?x=1": "/invoices  x=1",
		"/t/acme/":             "/  ",
		"/t/acme":              "/  ",
		"/t/acme/a%2Fb":        "/a/b /a%2Fb ",
		"/t/ac%6de/a%20b":      "/a b /a%20b ",
		"/t/acme//x":           "//x  ",
		"/t/acme%2Fx/y":        unknown,
		"/t/acme/../slow":      "/../slow  ",
		"/x/acme/":             missing,
		"/%74/acme/":           missing,
		"/t//acme/":            missing,
	} {
		r := request(t, target)
		before := *r.URL
		w := httptest.NewRecorder()
		m.Wrap(show).ServeHTTP(w, r)
		require.Equal(t, want, w.Body.String(), target)
		require.Equal(t, before, *r.URL, "the caller's request stays as it is")
	}

	// As http.StripPrefix does where that has a tenant's fixed prefix.
	for _, target := range []string{"/t/acme/x/y", "/t/acme/a%2Fb", "/t/acme/%41", "/t/acme//x", "/t/acme/"} {
		ours, theirs := httptest.NewRecorder(), httptest.NewRecorder()
		m.Wrap(show).ServeHTTP(ours, request(t, target))
		http.StripPrefix("/t/acme", show).ServeHTTP(theirs, request(t, target))
		require.Equal(t, theirs.Body.String(), ours.Body.String(), target)
	}
}

// Behind a mux the pattern's wildcard names the tenant.
func TestByPathValue(t *testing.T) {
	t.Parallel()
	env := setup(t)
	m := tenanthttp.New(env.Catalog, &tenanthttp.Opts{By: tenanthttp.ByPathValue("tenant")})
	mux := http.NewServeMux()
	mux.Handle("/orgs/{tenant}/invoices", m.Wrap(greet))
	mux.Handle("/invoices", m.Wrap(greet))
	for target, want := range map[string]string{"/orgs/acme/invoices": "acme", "/orgs/nobody/invoices": unknown, "/orgs/slow/invoices": locked, "/invoices": missing} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request(t, target))
		require.Equal(t, want, w.Body.String(), target)
	}
}

// A path that anybody may send leads to a tenant that it names, or is refused, and breaks
// nothing.
func FuzzByPath(f *testing.F) {
	for _, path := range []string{"/t/acme/x", "/t/acme", "/t/%61cme/%2e%2e/", "/t/acme%2f", "/t/\x00/", "//t/acme", "/t/acme/%zz"} {
		f.Add(path, path)
	}
	acme := catalog.Tenant{}
	acme.ID, acme.Slug = "11111111-2222-4333-8444-555555555555", "acme"
	by := tenanthttp.ByPath("/t/")
	f.Fuzz(func(t *testing.T, path, raw string) {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		r.URL.Path, r.URL.RawPath = path, raw
		asked := ""
		tenant, err := by(context.Background(), only{acme, &asked}, r)
		if err != nil {
			require.Equal(t, path, r.URL.Path)
			return
		}
		require.Equal(t, acme.ID, tenant.ID)
		require.Equal(t, "acme", asked)
		require.True(t, strings.HasPrefix(path, "/t/acme"))
		require.True(t, strings.HasPrefix(r.URL.Path, "/"))
		require.Equal(t, strings.TrimPrefix(strings.TrimPrefix(path, "/t/acme"), "/"), r.URL.Path[1:])
	})
}

// only knows one tenant, by its slug.
type only struct {
	tenant catalog.Tenant
	asked  *string
}

func (o only) ResolveName(_ context.Context, name string) (catalog.Tenant, error) {
	if *o.asked = name; name != o.tenant.Slug {
		return catalog.Tenant{}, errors.New("unknown")
	}
	return o.tenant, nil
}

func (o only) ResolveHost(ctx context.Context, host string) (catalog.Tenant, error) {
	return o.ResolveName(ctx, host)
}

func (o only) ResolveEmail(ctx context.Context, email string) (catalog.Tenant, error) {
	return o.ResolveName(ctx, email)
}

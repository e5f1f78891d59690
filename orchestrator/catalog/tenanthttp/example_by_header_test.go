package tenanthttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog/tenanthttp"
)

// A gateway may name the tenant in a header, and an API may refuse in JSON.
func Example_byHeader() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")

	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant, _ := tenanthttp.Tenant(r.Context())
		_, _ = fmt.Fprintln(w, "hello", tenant.Slug)
	})
	handler := tenanthttp.New(env.Catalog, &tenanthttp.Opts{
		By: tenanthttp.ByHeader("X-Tenant"),
		Refuse: func(w http.ResponseWriter, _ *http.Request, refusal tenanthttp.Refusal) {
			w.WriteHeader(refusal.Status)
			_, _ = fmt.Fprintf(w, "{\"code\": %q}\n", refusal.Code)
		},
	}).Wrap(app)

	for _, name := range []string{"acme", "acne", ""} {
		r := httptest.NewRequest(http.MethodGet, "http://gateway.example.com/", nil)
		r.Header.Set("X-Tenant", name)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 200 hello acme
	// 404 {"code": "unknown_tenant"}
	// 400 {"code": "no_tenant"}
}

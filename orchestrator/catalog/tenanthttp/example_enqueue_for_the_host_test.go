package tenanthttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/tenanthttp"
)

// SendInvoice is a kind of an application: its arguments and its name.
type SendInvoice struct {
	Invoice int `json:"invoice"`
}

func (SendInvoice) Kind() string { return "send-invoice" }

// The tenant of a request is the one whose host it was sent to; a job is enqueued
// for it without naming it.
func Example_enqueueForTheHost() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	_ = env.Catalog.Domains().Add(context.Background(), "acme", "acme.example.com", catalog.DomainSubdomain)

	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := env.Client.Enqueue(r.Context(), "", SendInvoice{Invoice: 7}, nil); err != nil {
			http.Error(w, "not accepted", http.StatusInternalServerError)
			return
		}
		tenant, _ := tenanthttp.Tenant(r.Context())
		_, _ = fmt.Fprintln(w, "accepted for", tenant.Name)
	})
	listener := catalog.NewListener(env.Catalog, catalog.ListenerConfig{}) // changes count at once
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { _ = listener.Run(ctx) }() // nil after stop
	handler := tenanthttp.New(env.Catalog, nil).Wrap(app)

	for _, host := range []string{"acme.example.com", "acne.example.com"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://"+host+"/invoices", nil))
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 200 accepted for acme
	// 404 There is no such tenant.
}

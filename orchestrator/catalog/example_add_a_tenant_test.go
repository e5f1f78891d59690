package catalog_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// A tenant is placed in a database that the catalog knows. Hosts, e-mail domains and its
// slug then lead to it.
func Example_addATenant() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("freemium-1", jobstest.DatabaseOpts{})
	ctx := context.Background()

	tenant, err := env.Catalog.AddTenant(ctx, catalog.TenantParams{
		Slug: "fern", OrgID: 42, Name: "Fern & Sons", Plan: "freemium", Timezone: "Europe/Paris", Database: "freemium-1",
	})
	fmt.Println(tenant.Slug, tenant.OrgID, tenant.Status, tenant.Database, err)
	fmt.Println(env.Catalog.Domains().Add(ctx, "fern", "fern.example.com", catalog.DomainSubdomain))
	fmt.Println(env.Catalog.Domains().AddEmail(ctx, "fern", "fern.example"))

	byHost, err := env.Catalog.ResolveHost(ctx, "FERN.example.com:8443")
	fmt.Println(byHost.Name, err)
	byEmail, err := env.Catalog.ResolveEmail(ctx, "ines@fern.example")
	fmt.Println(byEmail.Name, err)
	byOrgID, err := env.Catalog.ResolveName(ctx, "42")
	fmt.Println(byOrgID.Name, err)
	_, err = env.Catalog.ResolveHost(ctx, "www.fern.example.com")
	fmt.Println(err)
	// Output:
	// fern 42 active freemium-1 <nil>
	// <nil>
	// <nil>
	// Fern & Sons <nil>
	// Fern & Sons <nil>
	// Fern & Sons <nil>
	// unknown tenant: no tenant has the domain "www.fern.example.com"
}

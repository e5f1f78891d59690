package catalog_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// The jobs of a tenant that is suspended wait until it is active again. Its requests are
// refused.
func Example_suspendATenant() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	ctx := context.Background()

	err := env.Catalog.SetStatus(ctx, "acme", catalog.Suspended)
	fmt.Println(err)
	tenant, err := env.Catalog.ResolveName(ctx, "acme")
	fmt.Println(tenant.Status, errors.Is(err, jobs.ErrTenantSuspended))

	err = env.Catalog.SetStatus(ctx, "acme", "asleep")
	fmt.Println(err)
	// Output:
	// <nil>
	// suspended true
	// set status: status "asleep": give provisioning, active, suspended, moving or archived
}

package jobs_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs"
)

// A request's context carries its tenant. Enqueue takes that tenant when none is named.
func ExampleWithTenant() {
	ctx := jobs.WithTenant(context.Background(), "acme")
	fmt.Println(jobs.TenantFrom(ctx))
	_, err := jobs.TenantFrom(context.Background())
	fmt.Println(err)
	// Output:
	// acme <nil>
	// no tenant given: pass one, or use a context made by jobs.WithTenant
}

package testbed_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// A program that tries its schema on a Postgres of its own, with two tenants in one
// database. It needs nothing but Postgres's binaries, and leaves nothing.
func Example() {
	if err := try(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// acme is in freemium-1
	// globex is in freemium-1
}

func try(ctx context.Context) (err error) {
	bed, err := testbed.Open(ctx, testbed.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close(ctx)) }()
	const schema = `CREATE TABLE invoices (org_id bigint NOT NULL, amount numeric NOT NULL)`
	if _, err := bed.Database(ctx, testbed.DatabaseOpts{Name: "freemium-1", Schema: schema}); err != nil {
		return err
	}
	for _, slug := range []string{"acme", "globex"} {
		tenant, err := bed.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: slug, Database: "freemium-1"})
		if err != nil {
			return err
		}
		fmt.Println(tenant.Slug, "is in", tenant.Database)
	}
	return nil
}

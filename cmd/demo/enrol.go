package main

import (
	"context"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// enrol makes the tenant databases, with Headgate's own tables (what `headgate database
// add` does) and the SaaS's, and enters them and their tenants in the catalog. The
// addresses go in sealed and never come out again, but as connections.
func (c *cluster) enrol(ctx context.Context) error {
	return c.each(ctx, "creating", func(ctx context.Context, d *database) (err error) {
		kind := catalog.KindDedicated
		if d.shared() {
			kind = catalog.KindShared
		}
		d.Database, err = c.bed.Database(ctx, testbed.DatabaseOpts{Name: d.name, DBName: d.name, Kind: kind, Schema: saasSchema, Closed: true})
		if err != nil {
			return err
		}
		return d.addTenants(ctx, c.bed.Catalog)
	})
}

func (d *database) addTenants(ctx context.Context, cat *catalog.Catalog) error {
	params := make([]catalog.TenantParams, len(d.tenants))
	for i, t := range d.tenants {
		params[i] = catalog.TenantParams{Slug: t.slug, Name: t.name, Plan: t.plan(), Timezone: t.zone, Database: d.name}
	}
	added, err := cat.AddTenants(ctx, params)
	if err != nil {
		return err
	}
	for i, t := range d.tenants {
		t.orgID = added[i].OrgID // the catalog numbers them
	}
	return nil
}

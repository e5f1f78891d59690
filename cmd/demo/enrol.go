package main

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// serverName is what the catalog calls the demo's Postgres.
const serverName = "demo"

// enrol enters the server, the databases and the tenants into a new catalog.
// The addresses go in sealed and never come out again, but as connections.
func (c *cluster) enrol(ctx context.Context) (*catalog.Catalog, error) {
	key := catalog.NewKey("demo")
	c.key = key.Reveal()
	ring, err := catalog.NewKeyRing(key)
	if err != nil {
		return nil, err
	}
	cat := catalog.New(c.central, ring)
	server := catalog.ServerParams{Name: serverName, Hosts: []string{c.server.SocketDir()}, Transport: address.Socket}
	if _, err := cat.AddServer(ctx, server); err != nil {
		return nil, err
	}
	for _, d := range c.databases {
		if err := d.enrol(ctx, cat); err != nil {
			return nil, fmt.Errorf("entering database %s into the catalog: %w", d.name, err)
		}
	}
	return cat, nil
}

func (d *database) enrol(ctx context.Context, cat *catalog.Catalog) error {
	kind := catalog.KindDedicated
	if d.shared() {
		kind = catalog.KindShared
	}
	_, err := cat.AddDatabase(ctx, catalog.DatabaseParams{
		ID: d.id, Name: d.name, Server: serverName, Kind: kind, Job: d.job, Owner: d.owner,
	})
	if err != nil {
		return err
	}
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

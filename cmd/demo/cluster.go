package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// cluster is the demo's private Postgres. A SaaS has several servers; that the
// central database and the tenants' share one here changes nothing else.
type cluster struct {
	server    *localpg.Server
	at        *testbed.Server
	admin     *pgxpool.Pool // the superuser's, on the database postgres
	bed       *testbed.Bed  // the central database, as its owner, and the catalog
	databases []*database   // the tenants'
}

// startCluster starts Postgres. notify is told if it has to be fetched first.
func startCluster(ctx context.Context, notify func(string)) (*cluster, error) {
	server, err := localpg.Start(ctx, localpg.Config{Notify: notify})
	if err != nil {
		return nil, err
	}
	c := &cluster{server: server}
	if c.at, err = testbed.Local("demo", server); err == nil {
		c.admin, err = c.at.Pool(ctx, "postgres", 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the server: %w", err), c.close())
	}
	return c, nil
}

// close ends Postgres and removes its data.
func (c *cluster) close() (err error) {
	if c.bed != nil {
		err = c.bed.Close(context.Background())
	}
	if c.admin != nil {
		c.admin.Close()
	}
	return errors.Join(err, c.server.Stop())
}

// createCentral makes the central database, with an owner of its own, and
// brings it to Headgate's schema and to the application's.
func (c *cluster) createCentral(ctx context.Context) (err error) {
	c.bed, err = testbed.Open(ctx, testbed.Config{
		Server: c.at, Prefix: "demo", Central: "headgate", CentralOwner: true, KeyName: "demo", Conns: 20, // a worker uses some ten
	})
	if err != nil {
		return err
	}
	if _, err := c.bed.Pool.Exec(ctx, applicationSchema); err != nil {
		return fmt.Errorf("creating the application's own table: %w", err)
	}
	return nil
}

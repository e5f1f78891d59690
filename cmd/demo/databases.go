package main

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
)

// database is one tenant database, with two logins of its own once it is made.
type database struct {
	*testbed.Database
	name    string // in the catalog and on the server
	tenants []*tenant
	budgets map[brandKey]int64 // as they were planted
	tasks   int                // how many were planted
}

// shared says whether tenants of the freemium plan live here.
func (d *database) shared() bool { return d.tenants[0].plan() == freemium }

// idle says whether no tenant of the database has anything to do.
func (d *database) idle() bool {
	return !slices.ContainsFunc(d.tenants, func(t *tenant) bool { return !t.idle })
}

// plan decides which databases there will be.
func (c *cluster) plan(all []*tenant) {
	for _, t := range all {
		i := slices.IndexFunc(c.databases, func(d *database) bool { return d.name == t.database })
		if i < 0 {
			i = len(c.databases)
			c.databases = append(c.databases, &database{name: t.database})
		}
		c.databases[i].tenants = append(c.databases[i].tenants, t)
	}
}

// each does something with every tenant database, a few at a time.
func (c *cluster) each(ctx context.Context, doing string, do func(context.Context, *database) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, d := range c.databases {
		group.Go(func() error {
			if err := do(ctx, d); err != nil {
				return fmt.Errorf("%s database %s: %w", doing, d.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

//go:embed schema.sql
var saasSchema string

// setUpSessions is how many connections setting up makes to each tenant database, one
// that gives it to its logins and one of fill: the number that Postgres must have counted
// before its counting is believed.
const setUpSessions = 2

// fill plants the tenants' rows, with the owner's login.
func (c *cluster) fill(ctx context.Context, now time.Time) error {
	return c.each(ctx, "filling", func(ctx context.Context, d *database) error {
		return d.asOwner(ctx, func(conn *pgx.Conn) error { return d.plant(ctx, conn, now) })
	})
}

// tasks is how many were planted in all databases.
func (c *cluster) tasks() (n int) {
	for _, d := range c.databases {
		n += d.tasks
	}
	return n
}

// asOwner runs fn on a connection with the owner's login, whom row-level
// security does not hold to one tenant.
func (d *database) asOwner(ctx context.Context, fn func(*pgx.Conn) error) error {
	return d.Server.As(ctx, d.Owner, fn)
}

package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// database is one tenant database, with two logins of its own.
type database struct {
	id      string // its identity, in the catalog and in the database itself
	name    string // in the catalog and on the server
	job     address.Address
	owner   address.Address
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
			c.databases = append(c.databases, c.newDatabase(t.database))
		}
		c.databases[i].tenants = append(c.databases[i].tenants, t)
	}
}

func (c *cluster) newDatabase(name string) *database {
	login := func(role string) address.Address {
		return address.Address{
			Host: c.server.SocketDir(), Port: c.server.Port(), Database: name,
			User: name + "-" + role, Password: address.NewSecret(rand.Text()),
		}
	}
	return &database{id: uuid.NewString(), name: name, job: login("job"), owner: login("owner")}
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

// createTenantDatabases makes them, empty, with their roles.
func (c *cluster) createTenantDatabases(ctx context.Context) error {
	return c.each(ctx, "creating", func(ctx context.Context, d *database) error {
		owner := login{d.owner.User, d.owner.Password.Reveal(), ""}
		job := login{d.job.User, d.job.Password.Reveal(), "headgate_job"}
		return c.create(ctx, d.name, owner, job)
	})
}

//go:embed schema.sql
var saasSchema string

// setUpSessions is how many connections fill makes to each tenant database: the
// number that Postgres must have counted before its counting is believed.
const setUpSessions = 1

// fill gives each tenant database Headgate's own tables (what `headgate database
// add` does), the SaaS's, and rows, all with the owner's login.
func (c *cluster) fill(ctx context.Context, now time.Time) error {
	return c.each(ctx, "filling", func(ctx context.Context, d *database) error {
		return d.asOwner(ctx, func(conn *pgx.Conn) error {
			if _, err := migrations.UpTenant(ctx, conn, d.id, nil); err != nil {
				return err
			}
			if _, err := conn.Exec(ctx, saasSchema); err != nil {
				return fmt.Errorf("creating the schema: %w", err)
			}
			return d.plant(ctx, conn, now)
		})
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
	conn, err := tenantdb.Connect(ctx, tenantdb.Config{}, address.Socket, address.NoPooler, d.owner)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return fn(conn)
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// cluster is the demo's private Postgres. A SaaS has several servers; that the
// central database and the tenants' share one here changes nothing else.
type cluster struct {
	server    *localpg.Server
	admin     *pgxpool.Pool // the superuser's, on the database postgres
	central   *pgxpool.Pool // the central database, as its owner
	url       string        // of the central database; holds a password
	key       string        // of the catalog; a secret
	databases []*database   // the tenants'
}

// startCluster starts Postgres and prepares it as an administrator does. notify
// is told if it has to be fetched first.
func startCluster(ctx context.Context, notify func(string)) (*cluster, error) {
	server, err := localpg.Start(ctx, localpg.Config{Notify: notify})
	if err != nil {
		return nil, err
	}
	c := &cluster{server: server}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the server: %w", err), c.close())
	}
	return c, nil
}

// close ends Postgres and removes its data.
func (c *cluster) close() error {
	for _, pool := range []*pgxpool.Pool{c.central, c.admin} {
		if pool != nil {
			pool.Close()
		}
	}
	return c.server.Stop()
}

// What Postgres 15 does by itself: only the owner of a database makes tables in
// its schema public.
const closePublicSchema = `
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO pg_database_owner`

// prepare does what only an administrator may: the group role of all job
// logins, and what every new database begins with.
func (c *cluster) prepare(ctx context.Context) (err error) {
	if c.admin, err = pgxpool.New(ctx, c.server.URL("postgres")); err != nil {
		return err
	}
	template, err := pgx.Connect(ctx, c.server.URL("template1"))
	if err != nil {
		return err
	}
	defer func() { _ = template.Close(context.WithoutCancel(ctx)) }()
	if err := migrations.PrepareServer(ctx, template); err != nil {
		return err
	}
	_, err = template.Exec(ctx, closePublicSchema)
	return err
}

// createCentral makes the central database, with an owner of its own, and
// brings it to Headgate's schema and to the application's.
func (c *cluster) createCentral(ctx context.Context) (err error) {
	const name = "headgate"
	password := rand.Text()
	if err := c.create(ctx, name, login{name, password, ""}); err != nil {
		return err
	}
	c.url = c.urlOf(name, name, password)
	cfg, err := pgxpool.ParseConfig(c.url)
	if err != nil {
		return err
	}
	cfg.MaxConns = 20 // a worker uses some ten
	if c.central, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return err
	}
	return c.central.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		if _, err := migrations.Up(ctx, conn.Conn(), nil); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, applicationSchema); err != nil {
			return fmt.Errorf("creating the application's own table: %w", err)
		}
		return nil
	})
}

func (c *cluster) urlOf(database, user, password string) string {
	socket := url.Values{"host": {c.server.SocketDir()}, "port": {strconv.Itoa(c.server.Port())}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Path: "/" + database, RawQuery: socket.Encode()}
	return u.String()
}

// login is a role to be made. Its parts are the demo's own and hold nothing
// that SQL would need quoted.
type login struct{ name, password, group string }

// create makes a database and its roles. The owner may enter it, the others by a
// grant, and nobody else.
func (c *cluster) create(ctx context.Context, name string, owner login, others ...login) error {
	statements := []string{
		owner.create(),
		fmt.Sprintf(`CREATE DATABASE %q OWNER %q`, name, owner.name),
		fmt.Sprintf(`REVOKE ALL ON DATABASE %q FROM PUBLIC`, name),
	}
	for _, other := range others {
		statements = append(statements, other.create(), fmt.Sprintf(`GRANT CONNECT ON DATABASE %q TO %q`, name, other.name))
	}
	for _, sql := range statements {
		if _, err := c.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("creating database %s: %w", name, err) // not the statement: it may hold a password
		}
	}
	return nil
}

func (l login) create() string {
	sql := fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD '%s'`, l.name, l.password)
	if l.group != "" {
		sql += " IN ROLE " + l.group
	}
	return sql
}

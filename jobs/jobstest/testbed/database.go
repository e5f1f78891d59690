package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// DatabaseOpts says what a tenant database is to be.
type DatabaseOpts struct {
	Name   string // in the catalog
	DBName string // on the server. "" means the bed's prefix and a number
	Kind   string // catalog.KindShared, which "" means, or catalog.KindDedicated
	Schema string // the application's own: SQL that the owner runs. Databases with the same are clones

	// Observed says why jobs run in the database although it does not keep its tenants
	// apart. "" means that they do not.
	Observed string

	Encoding string // as CREATE DATABASE has it. "" means the server's, which is UTF8

	// Closed makes the owner the owner of the database too, and lets nobody in but its
	// two logins and superusers. Without it the owner has all rights on the database,
	// and every login may connect.
	Closed bool

	// Server is where it is made. nil means the bed's.
	Server *Server
}

// Database is one tenant database.
type Database struct {
	ID     string // in the catalog, and in the database itself
	Name   string // in the catalog
	DBName string // on the server
	Server *Server
	Owner  address.Address
	Job    address.Address

	SigningKey address.Secret // by which it knows its workers

	undo undo
}

// Database makes a tenant database with two logins of its own and enters it in the
// catalog, with its server if need be; or it leaves nothing.
func (b *Bed) Database(ctx context.Context, opts DatabaseOpts) (d *Database, err error) {
	d = &Database{SigningKey: catalog.NewSigningKey(), ID: uuid.NewString(), Name: opts.Name, DBName: opts.DBName, Server: opts.Server}
	if d.Server == nil {
		d.Server = b.Server
	}
	if d.DBName == "" {
		d.DBName = fmt.Sprintf("%s_t%d", b.prefix, b.count.Add(1))
	}
	d.Owner, d.Job = d.Server.login(d.DBName, d.DBName+"_owner"), d.Server.login(d.DBName, d.DBName+"_job")
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making tenant database %s: %w", opts.Name, err), d.Drop(ctx))
			d = nil
		}
	}()
	if err := b.clone(ctx, d, opts); err != nil {
		return d, err
	}
	if err := b.enrol(ctx, d, opts); err != nil {
		return d, err
	}
	b.undo.later(d.Drop)
	return d, nil
}

// Drop removes the database and its logins, but not its entry in the catalog. A second
// call does nothing.
func (d *Database) Drop(ctx context.Context) error { return d.undo.run(ctx) }

// clone copies a template and makes the copy its owner's.
func (b *Bed) clone(ctx context.Context, d *Database, opts DatabaseOpts) error {
	s := d.Server
	template, owner, err := b.tenantTemplate(ctx, s, opts.Schema, opts.Encoding)
	if err != nil {
		return err
	}
	if err := b.create(ctx, &d.undo, s, d.DBName, template, newLogin{d.Owner, ""}, newLogin{d.Job, jobGroup}); err != nil {
		return err
	}
	statements := []string{
		fmt.Sprintf(`GRANT ALL ON DATABASE %s TO %s`, quote(d.DBName), quote(d.Owner.User)),
		fmt.Sprintf(`REASSIGN OWNED BY %s TO %s`, quote(owner), quote(d.Owner.User)),
		fmt.Sprintf(`UPDATE headgate.identity SET database_id = '%s'`, d.ID),
		`REVOKE CREATE ON SCHEMA public FROM PUBLIC`, // as it is from Postgres 15 on
	}
	if opts.Closed {
		statements = append(statements, closeTo(d.Owner, d.Job)...)
	}
	err = s.On(ctx, d.DBName, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return migrations.SetSigningKey(ctx, tx, d.SigningKey) })
	})
	if err != nil {
		return fmt.Errorf("giving the database to its logins: %w", err)
	}
	return nil
}

// closeTo are the statements that give a database to an owner and let in only the owner
// and others. The rights on schema public are as Postgres 15 has them by itself.
func closeTo(owner address.Address, others ...address.Address) []string {
	database := quote(owner.Database)
	statements := []string{
		`ALTER DATABASE ` + database + ` OWNER TO ` + quote(owner.User),
		`REVOKE ALL ON DATABASE ` + database + ` FROM PUBLIC`,
		`REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
		`GRANT ALL ON SCHEMA public TO pg_database_owner`,
	}
	for _, other := range others {
		statements = append(statements, `GRANT CONNECT ON DATABASE `+database+` TO `+quote(other.User))
	}
	return statements
}

// enrol enters a database in the catalog.
func (b *Bed) enrol(ctx context.Context, d *Database, opts DatabaseOpts) error {
	if err := b.Enter(ctx, d.Server); err != nil {
		return err
	}
	_, err := b.Catalog.AddDatabase(ctx, catalog.DatabaseParams{
		ID: d.ID, Name: d.Name, Server: d.Server.name(), DBName: d.DBName, Kind: cmp.Or(opts.Kind, catalog.KindShared), Job: d.Job, Owner: d.Owner, SigningKey: d.SigningKey,
	})
	if err == nil && opts.Observed != "" {
		_, err = b.Catalog.SetProtection(ctx, catalog.ProtectionChange{Database: d.Name, To: catalog.ProtectionObserved, Reason: opts.Observed, Actor: "testbed"})
	}
	if err != nil || d.Server.pooler() == address.NoPooler {
		return err
	}
	for login, a := range map[jobs.Login]address.Address{jobs.LoginJob: d.Job, jobs.LoginOwner: d.Owner} {
		a.Port = int(d.Server.Admin.ConnConfig.Port)
		if err := b.Catalog.Logins().SetDirect(ctx, d.Name, login, a); err != nil {
			return err
		}
	}
	return nil
}

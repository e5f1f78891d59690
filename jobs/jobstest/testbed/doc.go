// Package testbed makes a central database and tenant databases on a Postgres
// server, and removes them again. It returns errors, so that programs can use it
// too: a demonstration, a load test, a script that tries a migration. Tests have
// package jobstest, which stands on this package and takes a testing.TB.
//
//	bed, err := testbed.Open(ctx, testbed.Config{}) // a Postgres of its own
//	if err != nil {
//		return err
//	}
//	defer func() { err = errors.Join(err, bed.Close(ctx)) }()
//	if _, err := bed.Database(ctx, testbed.DatabaseOpts{Name: "acme", Schema: schema}); err != nil {
//		return err
//	}
//	_, err = bed.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "acme", Database: "acme"})
//
// # What stands where
//
//	bed.go       Config and Bed: the central database, its pool, key and catalog
//	database.go  a tenant database: clone, logins, rights, identity, catalog entry
//	login.go     the roles with their passwords
//	server.go    a server: its address, and making and dropping databases on it
//	template.go  the databases that others are cloned from
//	undo.go      what Close has to remove, last things first
//
// # What it promises
//
// Each call leaves everything or nothing: what a failed call had made is dropped
// before the call returns. Close drops all databases, templates and roles of the
// bed. A context that has ended does not keep it from that. Three things stay:
// the group role headgate_job, which belongs to the server; templates of a Server
// with KeepTemplates and their owner's role; everything, after Keep.
//
// # Its weakness
//
// A process that is killed leaves its databases behind, because nobody else knows
// them. Their names begin with Config.Prefix. The superuser's rights are needed,
// because a clone changes its owner. A new kind of server, such as one without
// superusers, cannot be used.
package testbed

// Package catalog knows which tenant lives in which database on which server,
// and holds the logins of those databases sealed.
//
//	domain ──▶ tenant ──placement──▶ database ──▶ server
//	           slug      generation   shared: many tenants     hosts, transport
//	           uuid                   dedicated: one tenant
//	           org_id                 job login, owner login (sealed)
//
// A tenant is found by slug, UUID, org_id or an exact domain. What a worker
// asks for each job, [Catalog.ResolveTenant], is answered with an
// [address.Place]; the address in it is unsealed only when a connection is
// made, and is checked once more against the server's hosts and transport as
// they are then.
//
// A tenant's status decides what a worker is told:
//
//	provisioning ──▶ active ◀──▶ suspended ──▶ archived
//	                  ▲  │
//	                  │  ▼
//	                 moving
//
//	active                            its place
//	moving                            jobs.ErrTenantMoving: the work waits
//	provisioning, suspended, archived jobs.ErrTenantSuspended: no work
//
// The package refuses to give an address back: logins go in through AddDatabase
// and SetLogin, and come out as connections only. It refuses an address whose
// host is not the server's, a second tenant in a dedicated database, a slug or
// domain that could be read in two ways, and to start without a key.
//
// Its weakness: nothing is cached yet, so that every resolution is one query on
// the central database, and none is answered while that database is away. And
// a sealed address is bound to its row, not to its time: whoever can write the
// central database can put back a row as it once was.
package catalog

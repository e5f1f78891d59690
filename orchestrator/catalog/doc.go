// Package catalog knows which tenant lives in which database on which server,
// and holds the logins of those databases sealed.
//
//	domain ──▶ tenant ──placement──▶ database ──▶ server
//	           slug      generation   shared: many tenants     hosts, transport
//	           uuid                   dedicated: one tenant
//	           org_id                 job login, owner login (sealed)
//
// A tenant is found by slug, UUID, org_id, an exact domain or an exact e-mail
// domain. What a worker asks for each job, [Catalog.ResolveTenant], is answered
// with an [address.Place]; the address in it is unsealed only when a connection is
// made, and is checked once more against the server's hosts and transport as they
// are then. What an application asks for each request ([Catalog.ResolveHost],
// [Catalog.ResolveName], [Catalog.ResolveEmail]) is answered with the tenant;
// package tenanthttp does it for net/http.
//
// These four answer from one bounded memory ([Memory]):
//
//	              remembered, fresh ─────────────────────────────▶ answer
//	question ──▶  half way to its end: one query confirms all ───▶ answer
//	              nothing, or old: one query for all who ask it ─▶ answer, remembered
//	              the same, and the database is away: old answer for StaleFor, else ErrUnavailable
//
//	a change is seen        by whom
//	at once                 the Catalog that made it
//	some ms after commit    every process with a [Listener], whoever made it: psql too
//	FreshFor (0.5 s)        a process without one, or whose own is cut off
//	Memory.TTL (10 s)       a process whose notification got lost unnoticed
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
// A request is told the same.
//
// The package refuses to give an address back: logins go in through AddDatabase
// and Logins.Set, and come out as connections only. It refuses an address whose
// host is not the server's, a second tenant in a dedicated database, a slug or
// domain that could be read in two ways, and to start without a key.
//
// Its weakness: each process remembers for itself, so that a change counts in one
// some milliseconds before it counts in another: what needs the moment must fence,
// as a move does by the generation. A stranger who asks for hosts that do not exist
// costs a query each, though never another tenant's place in the memory. And a
// sealed address is bound to its row, not to its time: whoever can write the
// central database can put back a row as it once was.
package catalog

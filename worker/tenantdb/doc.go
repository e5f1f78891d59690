// Package tenantdb turns a place in the catalog into a connection, and takes
// it back.
//
// There is one pool for each (server, database, login), so that all tenants of
// a shared database share one. A pool is opened by the first job that needs it
// and closed when it has been idle; nothing here ever looks at a database that
// has no work. Addresses are opened (unsealed) at the moment of connecting and
// not kept.
//
//	place ──▶ pool ──▶ dial (address policy, resolved IP) ──▶ whose database is this? ──▶ fn(conn)
//	                                                                                       │
//	                            closed ◀── error, panic, timeout ──────────────────────────┤
//	                            reset, kept for the next job ◀── nil ──────────────────────┘
//
// It refuses what could mislead: an address that the server's row does not
// allow, an environment's PG* variables, a database whose identity is not the
// one that the catalog expects.
//
// Its weakness: the bound is per pool, not yet per server.
package tenantdb

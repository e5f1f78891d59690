// Package tenantdb turns a place in the catalog into a connection, and takes
// it back.
//
// All connections of this process to one server share that server's budget, over
// all its databases and logins, idle ones included (server.go), and with all other
// processes (shares.go). A connection is made by the first job that needs it and
// closed when it has been idle, by the server if the process is frozen; nothing here
// ever looks at a database that has no work. A server that does not answer
// is tried by one job at a time until it does (breaker.go), a login that was
// refused is not tried again until the catalog has another (refusals.go).
// Addresses are opened (unsealed) at the moment of connecting and not kept.
//
//	place ──▶ budget ──▶ dial (address policy, resolved IP) ──▶ whose database is this? ──▶ fn(conn)
//	                                                                                       │
//	                            closed ◀── error, panic, timeout ──────────────────────────┤
//	                            reset, kept for the next job ◀── nil ──────────────────────┘
//
// It refuses what could mislead: an address that the server's row does not
// allow, an environment's PG* variables, a database whose identity is not the
// one that the catalog expects.
//
// Its weaknesses: without claims (SyncAllowance, RaiseAllowance) the budget is this process's own, so
// that several together may have as many connections as each of them may; behind a
// pooler in session mode a frozen process keeps its connections until it is declared
// dead, unless the pooler ends them; and through a pooler in transaction mode a session
// that a handler got out of its hands cannot be cleaned (pooler.go).
package tenantdb

// Package tenantsync holds the kind that keeps the catalog as the SaaS's own table of tenants
// is, so that a schedule does what `headgate tenant sync` does:
//
//	headgate.sync    one database    reads its table of tenants    [Args]
//
// # How the catalog becomes as the table is
//
// The table, or a view that has the query, stands in a database of the catalog. A worker reads
// it as that database's owner, under the budget of its server, in a transaction that can write
// nothing. The arguments hold no SQL and no address, because the owner's login may not run
// others' SQL: a view that the owner has made is the owner's word for what may be read.
//
// First the job locks the table by its name and looks behind the lock at what the table is.
// Nobody can put a view of others in the table's place then ([relation.Lock]).
//
//  1. The job takes an advisory lock on the table's name, so that syncs of one table follow
//     each other. A job that finds the lock taken comes again.
//  2. It reads the rows by a cursor, whose snapshot is later than the lock.
//  3. It hands the rows to a [Syncer], which compares them with the catalog and writes the
//     differences. Before it writes it asks [Rows.Ours] whether the lock is still the job's: a
//     process that was taken for dead must not write what a later sync has read anew.
//
// A job may be repeated without harm. An attempt that was killed has written all or nothing,
// and the next run finds what is left to do.
//
// The weakness: the database's transaction is open until the catalog is written. One sync runs
// in a process at a time, because a Syncer may hold all rows in memory.
package tenantsync

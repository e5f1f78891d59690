// Package tenancy holds the kind that keeps an application database's own table of
// organisations equal to the catalog:
//
//	headgate.organisations    one database    adds and renames its organisations    [Organisations]
//
// Applications keep such a table so that foreign keys have something to refer to. A shared
// database has a row for each of its own tenants only, a dedicated one exactly one row.
//
// # How the rows become equal
//
// The job runs as the database's owner in one transaction with its ledger row. It locks the
// table by its name first, looks behind the lock, and refuses code and types of others
// ([relation.Lock]).
//
//  1. It takes an advisory lock on the table's name, so that jobs about one table follow
//     each other.
//  2. It reads the table, and after that the catalog. What a later job writes is therefore
//     never older than what an earlier one wrote. A tenant that is added meanwhile is not
//     taken for a row too many.
//  3. It changes the rows that differ and adds those that are missing. A row that the
//     database refuses is named, and the others are done. Rows that change places in a unique
//     column are changed together.
//  4. Rows of nobody are named. They are deleted on request only, and never where a foreign
//     key refers to them.
//
// A row that another session has locked, or has not committed, is left for the next run and
// named. The job waits 200 ms for the first such row at most, and 10 ms for later ones.
// Result.Output says what was found and done, Result.Rows how many rows were written.
//
// The rows of archived and removed tenants stay as they are, because their data does. They
// are neither added nor changed.
//
// The weakness: the table is right as of the job's own look at the catalog. A tenant that is
// added later has no row until the next run; a schedule bounds that time.
package tenancy

// Package maintenance holds the kinds that keep a database in shape:
//
//	headgate.purge    one tenant     deletes its old rows from one table   [Purge]
//	headgate.analyze  one database   renews the planner's statistics       [Analyze]
//	headgate.vacuum   one database   removes dead rows, table by table     [Vacuum]
//
// A purge is ordinary transactional work: its deletes and the ledger row commit
// together. In a shared database row-level security holds it to its tenant, and a
// table where that is not so is refused before anything is deleted.
// Analyze and vacuum are about the database as a whole and run as the owner of
// its tables, outside any transaction, one statement a table. They may be run
// again at any time.
//
// Postgres lets anybody run ANALYZE and VACUUM on any table, skips what the
// login has no right to, says so in a warning and reports success. Here a skipped
// table is an error that names it. The handlers read the warnings off the
// connection themselves, so that it needs no preparation.
//
// Names of tables are written as stored, name or schema.name, without quotes:
// case matters. They are checked and quoted before they get near a statement.
package maintenance

// Package importer brings the SaaS's own table of tenants into the catalog, and keeps the
// catalog as that table is.
//
//	CSV, JSON Lines ──▶ ReadCSV, ReadJSONLines ─┐
//	objects         ──▶ ReadObjects ────────────┤
//	SQL query       ──▶ ReadQuery ──────────────┴▶ Table ──▶ Importer.Import ──▶ Plan
//	                                                         read, compare, write
//
// A row is the tenant that has its org_id, else the one that has its org_key, else the one
// that has its slug. A column that the input lacks is left alone. A column that it has is
// the truth, for every row: an empty cell is the column's default.
//
// An import adds and changes. A sync ([Options.Source]) also suspends the tenants of its
// source that are missing in the input, and lets those that come back work again. A sync
// undoes only what a sync has done: a status that somebody else has set stays. So many
// missing tenants that the input itself is doubtful are an error, and nothing is written.
//
// An import is planned on one snapshot and written in one transaction. The rows that it
// changes must be those that it has read; if somebody else has changed one meanwhile, the
// import reads and plans again. A stopped import has written nothing, and can be begun again.
//
// The package refuses an input with any wrong row, and lists the rows. It never repeats the
// value of a column of secrets, and repeats no value of an input that has such a column. It
// moves no tenant to another database and changes no org_id and no org_key, because rows in
// the tenants' databases carry these.
//
// [Steady] does imports of what seldom changes, as a schedule does, at little cost.
//
// Its weakness: the input and the catalog's tenants are held in memory, some 3 kB a tenant.
package importer

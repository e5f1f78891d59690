// Package erasure holds the kind that erases a removed tenant:
//
//	headgate.erase    one database    deletes all rows of one organisation    [wire.Erase]
//
// The job runs as the database's owner, outside a transaction, in batches that each commit by
// themselves. A worker that is killed leaves what was deleted, and the next attempt goes on.
//
//	ask the centre ─▶ shut out ─▶ tables, again and again ─▶ ledger ─▶ centre ─▶ end
//	removed? asked    fence       until nothing goes any     rows      files,    erasures
//	for? drained?                 more                                 history
//
//	erase.go       the job from its beginning to its end
//	plan.go        the tables, in the order of their foreign keys
//	condition.go   the SQL by which a tenant's rows are found
//	remove.go      a table's rows, batch by batch
//	loosen.go      rows that refer to each other in a circle
//	told.go        what the job says
//
// Which rows are a tenant's, the declarations and policies of the database say
// (worker/tenantdb/protection), never the job's arguments. The arguments name the tenant, and
// the central database says whether it was removed, and whether somebody has asked.
//
// A row goes only if no other row refers to it by a foreign key, whatever that key would do
// upon a DELETE: a CASCADE could reach another tenant's rows. Children therefore go before
// parents. What is locked, referred to or kept by a trigger stops itself only; the job deletes
// the rest, fails with a sentence for each table, and is tried again.
//
// Its weakness: a table that nobody has declared, and whose policies do not say so either, is
// named and not touched.
package erasure

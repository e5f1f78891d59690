// Package erasure holds the kind that erases a removed tenant:
//
//	headgate.erase    one database    deletes all rows of one organisation    [wire.Erase]
//
// The job runs as the database's owner, outside a transaction, in batches that each commit by
// themselves. A worker that is killed leaves what was deleted, and the next attempt goes on.
//
//	ask the centre ─▶ shut out ─▶ tables, again and again ─▶ ledger ─▶ centre ─▶ end
//	removed? asked    fence       until a fresh look         rows      files,    erasures
//	for? drained?                 finds no row                         history
//
//	erase.go       the job from its beginning to its end
//	plan.go        the tables, in the order of their foreign keys
//	condition.go   the SQL by which a tenant's rows are found
//	lock.go        the tables that a transaction names, locked and looked at
//	remove.go      a table's rows, batch by batch
//	way.go         where the next page begins
//	circle.go      which tables keep rows of each other back
//	together.go    rows that refer to each other go in one statement
//	told.go        what the job says
//
// Which rows are a tenant's, the declarations of the database say
// (worker/tenantdb/protection), never the job's arguments, and never what the application's
// own policies let an organisation see. The arguments name the tenant, and the central
// database says whether it was removed, and whether somebody has asked.
//
// A row goes only if no row that stays refers to it by a foreign key, whatever that key would
// do upon a DELETE: a CASCADE could reach another tenant's rows. Children therefore go before
// parents, rows that refer to each other go together, and no row is ever changed so that
// another one may go.
//
// The job has the owner's rights, and the application's code must not. A table with a trigger
// or rule on DELETE whose function nobody trusts is left. Each transaction locks the tables that
// its statements name, and looks again behind the locks ([relation.Lock]). All statements run
// with a search_path of their own.
//
// What is locked, referred to or kept by a trigger stops itself only; the job deletes the
// rest, fails with a sentence for each table, and is tried again.
//
// Its weakness: a table that nobody has declared is named and not touched. What no lock keeps
// from coming, package jobs/relation says.
package erasure

// Package sqlscript is the kind that runs a tenant's SQL: headgate.sql, one
// statement or a list, in one transaction of the tenant's own database. All of
// them take effect, once and together with the ledger's row, or none does.
//
//	{"sql": "UPDATE invoices SET state = 'closed' WHERE due < $1",
//	 "params": [{"type": "date", "value": "2027-01-31"}]}
//
//	{"statements": [{"sql": "…", "params": […]}, {"sql": "…"}]}
//
//	args ──▶ checked, all of them ──▶ per statement: parsed ──▶ run, rows drained ──▶ nothing escaped? ──▶ the worker commits
//	              │                                    │              │                        │
//	              ▼                                    ▼              ▼                        ▼
//	       refused, nothing ran                 rolled back    rolled back              rolled back
//
// Register it with worker.InTx(w, sqlscript.Run).
//
// # What it refuses, and who refuses it
//
// A second command in one text: Postgres, since every text goes through the
// extended protocol, which takes one.
//
// Commands by their first words, before anything runs: transaction control
// (COMMIT, ROLLBACK, BEGIN, SAVEPOINT, SET TRANSACTION …), the tenant's context
// (SET ROLE, SET headgate.…, RESET …), what outlives the job on a connection
// that others use after it (SET without LOCAL, LISTEN, PREPARE, DISCARD …), COPY,
// and roles and databases. The words are held against a list of what is allowed:
// what is not known is refused.
//
// COMMIT and ROLLBACK inside a DO block or a procedure: Postgres, since there is
// a transaction round it.
//
// A changed context, however it came about (set_config in a query, a function,
// a DO block): the after-check that follows each statement ([Guard]). The job
// ends with an [guard.EscapedError] and is rolled back.
//
// # Its weakness
//
// It is a guard for SQL whose author is trusted, not a sandbox. A statement may
// change the context and put it back before it ends; no check after it can see
// that, and a deferred trigger runs after the last check. What a hostile author
// could do beyond is for privileges and row-level security to stop.
package sqlscript

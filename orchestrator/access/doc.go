// Package access knows who acts on the central database, and what has been changed by
// whom.
//
// Triggers write the record, headgate.audit, in the transaction of the change: whoever
// writes a table that people decide about is recorded, psql and older programs too. What
// Postgres knows of who that is, the login, it writes itself. What only the program knows,
// [Actor], the program says in its transaction:
//
//	ctx = access.With(ctx, access.Actor{Name: "ines", Reason: "invoice 4711 is paid"})
//	_, err = catalog.ResumeTenant(ctx, "acme", …)
//
// Every write of package orchestrator and those below it takes the actor of its context
// along. Rows of the record are added and never changed, and go by whole months.
//
// The weakness: an actor's name is what the program says. Who has a login that may write
// can say any name; the login beside the name is true.
package access

// Package worker is the tenant side of Headgate: it claims jobs from the
// central queue, finds where their tenants live, and runs each once in that
// tenant's own database.
//
// A program registers its kinds and runs:
//
//	w, err := worker.New(worker.Config{Pool: central, Resolver: catalog})
//	worker.InTx(w, Transfer) // func(ctx, pgx.Tx, *jobs.Job[TransferArgs]) error
//	err = w.Run(ctx)
//
// One attempt, from left to right (the file that does it below):
//
//	claim ─▶ resolve ─▶ connect ─▶ begin_job ─▶ handler ─▶ end_job ─▶ COMMIT ─▶ outcome + completion
//	claim/   handle.go   tenantdb/   ledger.go   execute.go  ledger.go              claim/pilot.go
//
// The ledger row that begin_job writes and the handler's own rows commit in one
// transaction of the tenant's database. So the effect happens once, whoever
// dies when: an attempt that finds its row done reports success and does
// nothing.
//
// Four forms of work: [InTx] as above; [ReadOnly], a transaction that cannot
// write and needs no ledger; [OnConn], outside a transaction, for statements
// that refuse one, whose kind says what may happen after a crash half way
// (onconn.go); [NoConn], which does not open the tenant's database at all.
//
// Workers watch each other: the jobs of one that died start again elsewhere
// after Config.DeadAfter and have used no attempt (claim/keeper.go,
// claim/reaper.go). One that was only asleep finds this out at its next
// heartbeat, cancels what it was running, and goes on as another incarnation;
// what it still tries to end is refused by its old lease.
//
// A job of which an attempt may be open is ended by its ledger's answer only: a
// cancelled one, one that would be discarded after a lost attempt, one that the ledger
// may have forgotten (settle.go).
package worker

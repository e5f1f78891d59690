// Package orchestrator is the central side of Headgate: it takes requests for
// work, keeps schedules, and decides when work may start. All of it is rows in
// one Postgres database; the other side, package worker, meets it only there.
//
//	client, err := orchestrator.New(orchestrator.Config{Pool: central, Catalog: catalog})
//	_, err = client.EnqueueTx(ctx, tx, "acme", TransferArgs{…}, nil)
//
// The flows, from left to right (the file that does it below):
//
//	Enqueue ─▶ check ─▶ catalog: which tenant? ─▶ key taken before? ─▶ row in river_job + wake-up, one transaction
//	enqueue.go  item.go                            idempotency.go       insert.go
//
//	due row ─▶ next time ─▶ row in river_job + schedule advanced, one transaction
//	scheduler.go  calendar/  insert.go
//
// What can be done to a job that was accepted:
//
//	Cancel   never begun ─▶ cancelled      begun ─▶ cancelling ─▶ cancelled, or completed     cancel.go
//	                                          └─ no answer: tombstone in its tenant's ledger   tombstone.go
//	Retry    discarded, cancelled, retryable, scheduled ─▶ available, under the same UID       retry.go
//	Rerun    any ─▶ a new job with a UID of its own                                            rerun.go
//	Explain  why is it not running?                                                            explain.go
//
// What people decide of whose work may run (rows that workers claim by):
//
//	SetLimit, ClearLimit   of a tenant, plan, kind or queue: how many at once, what rate, what weight   limit_set.go
//	Pause, Resume          a tenant, kind, queue or server: who, why, until when                         pauses.go
//	ExplainTenant          what waits and runs of a tenant, and what stops it                            explain_tenant.go
//
// The janitor (janitor.go) keeps the history by month, and deletes what is past
// its time.
//
// It never connects to a tenant's database. Its weakness: what has become of a job
// that was begun is known only when a worker has asked that database, so such a job
// stays cancelling for as long as nobody can.
package orchestrator

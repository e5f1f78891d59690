// Package orchestrator is the application's door to the central side of Headgate: it
// takes requests for work, and answers for them. The central side is rows in one
// Postgres database; the other side, package worker, meets the central side only there.
//
//	client, err := orchestrator.New(orchestrator.Config{Pool: central, Catalog: catalog})
//	_, err = client.EnqueueTx(ctx, tx, "acme", TransferArgs{…}, nil)
//
// What a Client is asked, in this package; orchestrator/internal/queue does it:
//
//	Enqueue  ─▶ check ─▶ which tenant? ─▶ key taken before? ─▶ row in river_job + wake-up, one transaction   client_enqueue.go
//	Cancel   never begun ─▶ cancelled      begun ─▶ cancelling ─▶ cancelled, or succeeded                     client_cancel.go
//	Retry    discarded, cancelled, failed, scheduled ─▶ waiting, under the same UID                           client_retry.go
//	Rerun    any ─▶ a new job with a UID of its own                                                           client_retry.go
//
// The other rooms of the central side:
//
//	orchestrator/schedule   schedules, templates, calendars, files of them; the scheduler
//	orchestrator/catalog    tenants, databases and servers
//	orchestrator/admission  limits and pauses: what may start
//	orchestrator/explain    why work does not run
//	orchestrator/retention  the janitor: the history by month, and what is past its time
//
// None of them connects to a tenant's database. The weakness of that: what has become
// of a job that was begun is known only when a worker has asked that database, so such a
// job stays cancelling for as long as nobody can.
package orchestrator

// Package orchestrator is the central side of Headgate: it takes requests for
// work, keeps schedules, and decides when work may start. All of it is rows in
// one Postgres database; the other side, package worker, meets it only there.
//
//	client, err := orchestrator.New(orchestrator.Config{Pool: central, Catalog: catalog})
//	_, err = client.EnqueueTx(ctx, tx, "acme", TransferArgs{…}, nil)
//
// The two flows, from left to right (the file that does it below):
//
//	Enqueue ─▶ check ─▶ catalog: which tenant? ─▶ row in river_job + wake-up, one transaction
//	enqueue.go  item.go                            insert.go
//
//	due row ─▶ next time ─▶ row in river_job + schedule advanced, one transaction
//	scheduler.go  calendar/  insert.go
//
// It never connects to a tenant's database.
package orchestrator

// Package queue reads and writes the rows of river_job at the centre: a request becomes
// a row, and what is asked of a row afterwards is done to it. It is the only room of the
// central side that knows River's client.
//
//	request ─▶ draft ─▶ catalog: which tenant? ─▶ key taken before? ─▶ row in river_job + wake-up, one transaction
//	enqueue.go draft.go                            idempotency.go       insert.go
//
// What is done to a row:
//
//	Cancel   never begun ─▶ cancelled      begun ─▶ cancelling ─▶ cancelled, or succeeded   cancel.go
//	                                          └─ no answer: tombstone in its tenant's ledger  tombstone.go, bury.go
//	Retry    discarded, cancelled, failed, scheduled ─▶ waiting, under the same UID          retry.go
//	Rerun    any ─▶ a new job with a UID of its own                                          rerun.go
//	Job      its row, and its attempts; once the row has left, what the history keeps        history.go
//
// The states are those of package jobs; river_job has words of its own (job_state.go).
//
// Workers are woken after the commit, or in the caller's transaction (bell.go,
// insert.go).
//
// Its weakness: a row is a row of River's, and other clients of River may write there what
// they like. So metadata is read as if any part of it may be missing.
package queue

// Package fault names the steps of an attempt at which a test may let the
// process die, to see that nothing is lost or done twice:
//
//	claim ─▶ Claimed ─▶ Fetched ─▶ Resolved ─▶ Begun ─▶ handler ─▶ Finished ─▶ COMMIT ─▶ Committed
//	      ─▶ Ended ─▶ completion: Completing ─▶ COMMIT ─▶ Completed
//
// A job that is settled goes another way: its tombstone ─▶ Entombed ─▶ COMMIT.
//
// Only programs built with the tag faults die or stop, and only at the step that the
// environment variable HEADGATE_CRASH_AT or HEADGATE_STOP_AT names; in all others
// [Point] is empty and costs nothing.
package fault

// The steps, in order.
const (
	Claimed    = "claimed"    // the rows are running, River does not know it yet
	Fetched    = "fetched"    // the attempt begins
	Resolved   = "resolved"   // it is known where the job runs
	Begun      = "begun"      // the ledger's row is written, not committed
	Finished   = "finished"   // the job is marked done, not committed
	Committed  = "committed"  // the tenant's database has it, nobody else
	Entombed   = "entombed"   // a tombstone is written into the ledger, not committed
	Ended      = "ended"      // the outcome is ready for the completion
	Completing = "completing" // the completion is about to be sent
	Completed  = "completed"  // the centre has it, River does not know it yet
)

// Package fault names the steps of an attempt at which a test may let the
// process die, to see that nothing is lost or done twice:
//
//	claim ─▶ Claimed ─▶ Fetched ─▶ Resolved ─▶ Begun ─▶ handler ─▶ Finished ─▶ COMMIT ─▶ Committed
//	      ─▶ Ended ─▶ completion: Completing ─▶ COMMIT ─▶ Completed
//
// Only programs built with the tag faults die, and only at the step that the
// environment variable HEADGATE_CRASH_AT names; in all others [Point] is empty
// and costs nothing.
package fault

// The steps, in order.
const (
	Claimed    = "claimed"    // the rows are running, River does not know it yet
	Fetched    = "fetched"    // the attempt begins
	Resolved   = "resolved"   // it is known where the job runs
	Begun      = "begun"      // the ledger's row is written, not committed
	Finished   = "finished"   // the job is marked done, not committed
	Committed  = "committed"  // the tenant's database has it, nobody else
	Ended      = "ended"      // the outcome is ready for the completion
	Completing = "completing" // the completion is about to be sent
	Completed  = "completed"  // the centre has it, River does not know it yet
)

// Package fault names the places between two statements of the central side's
// transactions at which a test may let the process stop, as if it were frozen:
//
//	scheduler   BatchBegun ─▶ claim ─▶ BatchClaimed ─▶ decide ─▶ BatchDecided ─▶ write ─▶ BatchWritten ─▶ COMMIT
//	selectors   ChangesLocked ─▶ take ─▶ ChangesTaken ─▶ evaluate ─▶ ChangesApplied ─▶ COMMIT
//	janitor     JanitorLocked ─▶ a piece of work ─▶ JanitorWorked ─▶ COMMIT
//	enqueue     KeyTaken ─▶ insert ─▶ Enqueued ─▶ COMMIT
//	SetTemplate    TemplateLocked ─▶ store, evaluate ─▶ TemplateSet ─▶ COMMIT
//	AddTenant   OrgIDsTaken ─▶ insert ─▶ TenantsAdded ─▶ COMMIT
//
// Only programs built with the tag faults stop, and only at the place that the
// environment variable HEADGATE_STOP_AT names; in all others [Point] is empty and
// costs nothing.
package fault

// The places.
const (
	BatchBegun     = "batch-begun"     // the transaction holds nothing yet
	BatchClaimed   = "batch-claimed"   // the schedules are locked
	BatchDecided   = "batch-decided"   // and the jobs that they cancel
	BatchWritten   = "batch-written"   // jobs, answers and next times, not committed
	ChangesLocked  = "changes-locked"  // the lock of selectors
	ChangesTaken   = "changes-taken"   // and the tenants that have changed
	ChangesApplied = "changes-applied" // and their schedules
	JanitorLocked  = "janitor-locked"  // the lock of janitors
	JanitorWorked  = "janitor-worked"  // and what the work has written
	KeyTaken       = "key-taken"       // the idempotency keys
	Enqueued       = "enqueued"        // and the jobs
	TemplateLocked = "template-locked" // the lock of selectors
	TemplateSet    = "template-set"    // and all schedules of the selector
	OrgIDsTaken    = "org-ids-taken"   // the counter that all new tenants need
	TenantsAdded   = "tenants-added"   // and the tenants
)

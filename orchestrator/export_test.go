package orchestrator

// RunOnce lets tests drive the scheduler one pass at a time.
var RunOnce = (*Scheduler).runOnce

// The claim and its setting, for EXPLAIN.
const (
	ClaimDueSQL  = claimDueSQL
	NoBitmapScan = noBitmapScan
)

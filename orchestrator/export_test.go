package orchestrator

import "context"

// RunOnce lets tests drive the scheduler one pass at a time, Sweep the janitor.
var (
	RunOnce = (*Scheduler).runOnce
	Sweep   = (*Janitor).runOnce
)

// LockFleets is what who changes a selector schedule executes first.
const LockFleets = lockFleets

// BatchSize is how many schedules the next batch takes at most.
func BatchSize(s *Scheduler) int { return s.size.limit() }

// SchedulerLimits and JanitorLimits are of their transactions.
var (
	SchedulerLimits = schedulerLimits
	JanitorLimits   = janitorLimits
	SelectorLimits  = selectorLimits
)

// JanitorLock is what a test takes to keep janitors from working.
const JanitorLock = janitorLock

// Statements whose plans are looked at, and their settings.
const (
	ClaimDueSQL         = claimDueSQL
	TickSQL             = tickSQL
	NoBitmapScan        = noBitmapScan
	SelectAttemptsSQL   = selectAttempts
	SelectIDOfUIDSQL    = selectIDOfUID
	SelectUnfinishedSQL = selectUnfinished
	StandingSQL         = standingSQL
	TurnSQL             = turnSQL
	AroundSQL           = aroundSQL
	HeldSQL             = heldSQL
	LanesOfSQL          = lanesOfSQL
	OnIndexesSQL        = onIndexesSQL
	SelectCancelling    = selectCancelling
	ListJobs            = listJobs
)

// ClassSteps is what explain says to do about a class.
var ClassSteps = classSteps

// Ring wakes a queue as Enqueue does after its commit.
func (c *Client) Ring(ctx context.Context, queue string) { c.bell.ring(ctx, queueSet{queue: true}) }

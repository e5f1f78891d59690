package queue

import "context"

// Statements whose plans are looked at.
const (
	SelectAttemptsSQL = selectAttempts
	SelectIDOfUIDSQL  = selectIDOfUID
	LastAttemptsSQL   = lastAttempts
	SelectCancelling  = selectCancelling
	ListJobs          = listJobs
	SelectLeavers     = selectLeavers
	CountUnended      = countUnended
	WalkIndexes       = walkIndexes
)

// Ring wakes a queue as Enqueue does after its commit.
func (q *Queue) Ring(ctx context.Context, queue string) {
	q.bell.ring(ctx, Set{queue: true})
}

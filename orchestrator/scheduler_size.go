package orchestrator

import (
	"context"
	"errors"
	"sync"

	"github.com/headgate/headgate/orchestrator/internal/central"
)

// batchSize is how many schedules the next batch takes: half of those of a batch
// that failed or took too long, and a quarter more after each that went well. So a slow
// machine or database finds the size that it can do.
type batchSize struct {
	most int

	mu      sync.Mutex
	now     int    // guarded by mu, as is the rest
	suspect string // id of the schedule that failed alone
}

func newBatchSize(most int) *batchSize { return &batchSize{most: most, now: most} }

func (b *batchSize) limit() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// went notes a batch that was stored, slow if only in parts.
func (b *batchSize) went(slow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.suspect = ""
	if slow {
		b.now = max(b.now/2, 1)
		return
	}
	b.now = min(b.now+(b.now+3)/4, b.most)
}

// failed notes a batch of so many that was not stored.
func (b *batchSize) failed(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = max(limit/2, 1)
}

// alone notes a schedule that failed with nobody beside it, and reports whether it
// did so before: the first time it may have been the connection.
func (b *batchSize) alone(id string) (again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	again, b.suspect = b.suspect == id, id
	return again
}

// timedOut reports that a statement, a lock, the transaction or the whole pass took
// too long.
func timedOut(err error) bool {
	return isSlow(err) || central.IsLockTimeout(err) || central.HasCode(err, "25P03") || errors.Is(err, context.DeadlineExceeded)
}

// isSlow reports that one statement took too long.
func isSlow(err error) bool { return central.HasCode(err, "57014") }

package worker

import (
	"sync"
	"time"
)

// bounded lets a number of lines a second through, and counts the others. When the second is
// over it tells how many these were.
type bounded struct {
	most int
	tell func(leftOut int64)

	mu      sync.Mutex
	since   time.Time   // guarded by mu: when the second began
	let     int         // guarded by mu: in this second
	leftOut int64       // guarded by mu
	timer   *time.Timer // guarded by mu: set while some are left out
}

func newBounded(most int, tell func(leftOut int64)) *bounded { return &bounded{most: most, tell: tell} }

// allow says whether one more may pass.
func (b *bounded) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); now.Sub(b.since) >= time.Second {
		b.since, b.let = now, 0
	}
	if b.let < b.most {
		b.let++
		return true
	}
	b.leftOut++
	if b.timer == nil {
		b.timer = time.AfterFunc(time.Second-time.Since(b.since), b.flush)
	}
	return false
}

// flush tells what is not told yet.
func (b *bounded) flush() {
	b.mu.Lock()
	n := b.leftOut
	b.leftOut = 0
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.mu.Unlock()
	if n > 0 {
		b.tell(n)
	}
}

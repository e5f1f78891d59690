package telemetry

import (
	"sync"
	"time"
)

// repeatEvery is how long a text is not repeated in a log, and repeatTexts how many texts are
// remembered; whoever logs has fewer.
const (
	repeatEvery = time.Minute
	repeatTexts = 200
)

// Repeats keeps a log from saying the same again and again: each text passes once a minute. The
// zero value is ready. Its method is safe for concurrent use.
type Repeats struct {
	mu   sync.Mutex
	said map[string]said // guarded by mu
}

// said is when a text passed, and how often it came since.
type said struct {
	at   time.Time
	left int
}

// Pass says whether a text may be logged at a time, and how often it was left out before.
func (r *Repeats) Pass(text string, at time.Time) (left int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.said[text]
	if known && at.Sub(before.at) < repeatEvery {
		before.left++
		r.said[text] = before
		return 0, false
	}
	if r.said == nil || !known && len(r.said) >= repeatTexts {
		r.said = map[string]said{}
	}
	r.said[text] = said{at: at}
	return before.left, true
}

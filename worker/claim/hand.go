package claim

import (
	"sync"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// claimed is one row under one claim. The row alone would not do: a process that
// was taken for dead may claim it again while its first attempt still goes on.
type claimed struct {
	id    int64
	token string
}

// hand is what this process has claimed and not yet ended. It answers one
// question: is a row that runs under this process's name really in its hands?
// The row is not if the answer to the claim was lost, or the attempt's end; and
// since the process lives and beats, no reaper would ever come for it.
type hand struct {
	mu      sync.Mutex
	claims  map[string]bool       // tokens of claims under way
	held    map[claimed]bool      // true: the attempt is over, its end is on its way to the row
	failing bool                  // the last group of ends was not written: ends are waiting
	strays  map[claimed]time.Time // rows in nobody's hands, and since when the keeper has known them
	left    map[claimed]Left      // what attempts have left for their ends
}

// Left is what an attempt leaves for its end besides what River carries there.
type Left struct {
	Outcome   *jobs.Outcome // for the history
	FollowUps []FollowUp    // to be inserted if the job succeeds

	// Settling marks an attempt that settles a cancelled job: if it could not,
	// the job goes back instead of counting as cancelled.
	Settling bool
}

func newHand() *hand {
	return &hand{claims: map[string]bool{}, held: map[claimed]bool{}, strays: map[claimed]time.Time{}, left: map[claimed]Left{}}
}

// leave keeps what an attempt leaves until its end is written.
func (h *hand) leave(c claimed, left Left) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left[c] = left
}

// leftBy returns it. It stays, for River may hand an end over again.
func (h *hand) leftBy(c claimed) Left {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left[c]
}

// reach notes a claim before it is made.
func (h *hand) reach(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims[token] = true
}

// take notes what a claim brought: nothing, if it failed or its answer was lost.
func (h *hand) take(token string, rows []*rivertype.JobRow) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.claims, token)
	for _, row := range rows {
		h.held[claimed{row.ID, token}] = false
	}
}

// finish notes that an attempt is over. Its end may have been written before.
func (h *hand) finish(row *rivertype.JobRow) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := claimed{row.ID, Token(row.AttemptedBy)}
	if _, ok := h.held[c]; ok {
		h.held[c] = true
	}
}

// drop forgets rows whose end is written, or is not this process's to write.
func (h *hand) drop(ends []end) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range ends {
		delete(h.held, claimed{e.id, e.token})
		delete(h.left, claimed{e.id, e.token})
	}
}

// wrote notes whether a group of ends was written. If not, River hands it over
// again, together with what has come since.
func (h *hand) wrote(ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = !ok
}

// endsTake is far longer than River lets the end of an attempt lie about while
// ends can be written (300 ms).
const endsTake = 2 * time.Second

// lost returns, of the rows that run under this process's name, those that have
// been in nobody's hands for patience: not claimed just now, not being worked,
// and not waiting for their end to be written.
func (h *hand) lost(running []claimed, now time.Time, patience time.Duration) (lost []claimed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	strays := map[claimed]time.Time{}
	for _, c := range running {
		over, held := h.held[c]
		if h.claims[c.token] || held && (!over || h.failing) {
			continue
		}
		since, known := h.strays[c]
		if !known {
			since = now
		}
		strays[c] = since
		wait := patience
		if held {
			wait = max(patience, endsTake)
		}
		if known && now.Sub(since) >= wait {
			lost = append(lost, c)
		}
	}
	h.strays = strays
	return lost
}

// producer tells the hand what River tells a producer's state.
type producer struct{ hand *hand }

// JobFinish is called by River when an attempt is over and its end was handed to
// the completer.
func (p *producer) JobFinish(row *rivertype.JobRow) { p.hand.finish(row) }

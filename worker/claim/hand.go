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

// lane names the work of one tenant or database, of one kind, in one queue, and
// the server where it is done ("" : none).
type lane struct {
	queue, owner, kind string
	server, database   string
}

// grip is one claimed row in hand.
type grip struct {
	lane
	over   bool // the attempt is over, its end is on its way to the row
	began  time.Time
	bill   float64 // worker-seconds that the owner has been charged for so far
	weight float64
	more   bool // the owner has a backlog, as far as is known
}

// hand is what this process has claimed and not yet ended. It answers three
// questions: is a row that runs under this process's name really in its hands
// (if the answer to a claim was lost, or an attempt's end, it is not, and since
// the process lives and beats no reaper would ever come for it); how much of the
// limits does this process use up; and what do owners owe for work that took
// longer, or less long, than they were charged for.
type hand struct {
	now     func() time.Time // a test's, or time.Now
	mu      sync.Mutex
	claims  map[string]bool       // tokens of claims under way
	held    map[claimed]*grip     //
	failing bool                  // the last group of ends was not written: ends are waiting
	strays  map[claimed]time.Time // rows in nobody's hands, and since when the keeper has known them
	left    map[claimed]Left      // what attempts have left for their ends
	late    map[claimed]end       // ends that wait for a row which somebody has locked

	lateTried time.Time         // when a group has tried them last
	owed      map[string]*debts // by queue
}

// Left is what an attempt leaves for its end besides what River carries there.
type Left struct {
	Outcome   *jobs.Outcome // for the history
	FollowUps []FollowUp    // to be inserted if the job succeeds

	// Settling says that an attempt at the job may be open: if it is cancelled
	// meanwhile and would be tried again, it is tried again soon, to be settled by its
	// tenant's ledger, instead of counting as cancelled.
	Settling bool

	// Again is in how long, if the attempt was put off.
	Again time.Duration

	// Told says that the history has enough ends like this one: it is not told if the
	// job goes back.
	Told bool
}

func newHand() *hand {
	return &hand{
		now:    time.Now,
		claims: map[string]bool{}, held: map[claimed]*grip{}, strays: map[claimed]time.Time{}, left: map[claimed]Left{}, late: map[claimed]end{},
		owed: map[string]*debts{},
	}
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
func (h *hand) take(token string, grips map[int64]*grip) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.claims, token)
	now := h.now()
	for id, g := range grips {
		g.began = now
		h.held[claimed{id, token}] = g
	}
}

// finish notes that an attempt is over, and what it is to be charged. Its end may
// have been written before.
func (h *hand) finish(row *rivertype.JobRow, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.held[claimed{row.ID, Token(row.AttemptedBy)}]; g != nil && !g.over {
		g.over = true
		h.ends(g, now)
	}
}

// holds adds up what is running in this process.
func (h *hand) holds() *hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := newHold()
	for _, g := range h.held {
		if !g.over {
			sum.run(g.lane)
		}
	}
	return sum
}

// inDatabase counts the jobs that run in one database.
func (h *hand) inDatabase(id string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.held {
		if !g.over && g.database == id {
			n++
		}
	}
	return n
}

// drop forgets rows whose end is written, or is not this process's to write.
func (h *hand) drop(ends []end) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range ends {
		delete(h.held, claimed{e.id, e.token})
		delete(h.left, claimed{e.id, e.token})
		delete(h.late, claimed{e.id, e.token})
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
		g := h.held[c]
		if _, late := h.late[c]; late || h.claims[c.token] || g != nil && (!g.over || h.failing) {
			continue
		}
		since, known := h.strays[c]
		if !known {
			since = now
		}
		strays[c] = since
		wait := patience
		if g != nil {
			wait = max(patience, endsTake)
		}
		if known && now.Sub(since) >= wait {
			lost = append(lost, c)
		}
	}
	h.strays = strays
	return lost
}

package claim

import (
	"sync"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// claimed is one row under one claim. The row alone would not do: a process that was taken
// for dead may claim the row again while its first attempt still goes on.
type claimed struct {
	id    int64
	token string
}

// lane names the jobs of one owner and kind in one queue, and the server where they run
// ("": none).
type lane struct {
	queue, owner, kind string
	server, database   string
}

// inflightJob is one job that this process has claimed and not yet ended.
type inflightJob struct {
	lane
	over   bool      // the attempt has ended; its end is on the way to the row
	asked  time.Time // when the claim that brought the job began
	began  time.Time
	bill   float64 // worker-seconds that the owner has been charged for so far
	weight float64
	more   bool // the owner has a backlog, as far as is known
}

// inflight is what this process has claimed and not yet ended. It answers three questions.
//
// Does this process have a row that runs under its name? If the answer to a claim or to an
// end was lost, the process does not have the row. No reaper would ever come for such a
// row, because the process lives and beats.
//
// How much of the limits does this process use up?
//
// What did attempts take longer, or less long, than their owners were charged for?
type inflight struct {
	now         func() time.Time // a test's, or time.Now
	mu          sync.Mutex
	claims      map[string]bool          // tokens of claims under way
	jobs        map[claimed]*inflightJob //
	failing     bool                     // the last group of ends was not written: ends are waiting
	unclaimed   map[claimed]time.Time    // rows that nobody has, and since when the keeper has known them
	completions map[claimed]Completion   // what attempts have set for their ends
	late        map[claimed]end          // ends that wait for a row which somebody has locked

	lateTried   time.Time               // when a group has tried them last
	adjustments map[string]*adjustments // by queue
}

// Completion is what an attempt sets for its end besides what River carries there.
type Completion struct {
	Outcome   *jobs.Outcome // for the history
	FollowUps []FollowUp    // to be inserted if the job succeeds
	Log       string        // what the handler has logged, a JSON object a line; kept if Outcome is

	// Settling says that an attempt at the job may be open. If such a job is cancelled
	// meanwhile and would be tried again, it is tried again soon, because its tenant's
	// ledger must settle it first. The job does not count as cancelled before.
	Settling bool

	// Again is how long the job waits for its next attempt, if this one was put off.
	Again time.Duration

	// AlreadyRecorded says that the history has enough ends like this one. The end is not
	// recorded if the job goes back.
	AlreadyRecorded bool

	// Written is called once, when the end is written or is not this process's to write
	// any more. It must not block. nil: nobody is told.
	Written func()
}

func newInflight() *inflight {
	return &inflight{
		now:    time.Now,
		claims: map[string]bool{}, jobs: map[claimed]*inflightJob{}, unclaimed: map[claimed]time.Time{}, completions: map[claimed]Completion{}, late: map[claimed]end{},
		adjustments: map[string]*adjustments{},
	}
}

// setCompletion keeps an attempt's completion until its end is written.
func (f *inflight) setCompletion(c claimed, done Completion) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.completions[c] = done
}

// completion returns an attempt's. The completion stays, because River may hand an end over
// again.
func (f *inflight) completion(c claimed) Completion {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.completions[c]
}

// reach notes a claim before it is made.
func (f *inflight) reach(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claims[token] = true
}

// take notes what a claim brought: nothing, if the claim failed or its answer was lost.
func (f *inflight) take(token string, claims map[int64]*inflightJob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.claims, token)
	now := f.now()
	for id, job := range claims {
		job.began = now
		f.jobs[claimed{id, token}] = job
	}
}

// finish notes that an attempt is over, and charges for it. The attempt's end may have been
// written before.
func (f *inflight) finish(row *rivertype.JobRow, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if job := f.jobs[claimed{row.ID, Token(row.AttemptedBy)}]; job != nil && !job.over {
		job.over = true
		f.chargeEnded(job, now)
	}
}

// times are when the claim of a row began, and when it had succeeded. Both are zero if this
// process does not have the row.
func (f *inflight) times(c claimed) (asked, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if job := f.jobs[c]; job != nil {
		return job.asked, job.began
	}
	return time.Time{}, time.Time{}
}

// usage adds up what is running in this process.
func (f *inflight) usage() *usage {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := newUsage()
	for _, job := range f.jobs {
		if !job.over {
			sum.run(job.lane)
		}
	}
	return sum
}

// running counts the attempts that run, by queue, and those whose ends are on the way.
func (f *inflight) running() (byQueue map[string]int, ending int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	byQueue = map[string]int{}
	for _, job := range f.jobs {
		if job.over {
			ending++
		} else {
			byQueue[job.queue]++
		}
	}
	return byQueue, ending
}

// inDatabase counts the jobs that run in one database.
func (f *inflight) inDatabase(id string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, job := range f.jobs {
		if !job.over && job.database == id {
			n++
		}
	}
	return n
}

// drop forgets rows whose end is written, or is not this process's to write.
func (f *inflight) drop(ends []end) {
	for _, written := range f.forget(ends) {
		written()
	}
}

func (f *inflight) forget(ends []end) (written []func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range ends {
		if done := f.completions[claimed{e.id, e.token}]; done.Written != nil {
			written = append(written, done.Written)
		}
		delete(f.jobs, claimed{e.id, e.token})
		delete(f.completions, claimed{e.id, e.token})
		delete(f.late, claimed{e.id, e.token})
	}
	return written
}

// wrote notes whether a group of ends was written. If not, River hands the group over
// again, together with what has come since.
func (f *inflight) wrote(ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing = !ok
}

// endsTake is far longer than River keeps the end of an attempt while ends can be written
// (300 ms).
const endsTake = 2 * time.Second

// findUnclaimed returns, of the rows that run under this process's name, those that have
// been unclaimed for atLeast: not claimed just now, not being worked, and not waiting for
// their end to be written.
func (f *inflight) findUnclaimed(running []claimed, now time.Time, atLeast time.Duration) (lost []claimed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	unclaimed := map[claimed]time.Time{}
	for _, c := range running {
		job := f.jobs[c]
		if _, late := f.late[c]; late || f.claims[c.token] || job != nil && (!job.over || f.failing) {
			continue
		}
		since, known := f.unclaimed[c]
		if !known {
			since = now
		}
		unclaimed[c] = since
		wait := atLeast
		if job != nil {
			wait = max(atLeast, endsTake)
		}
		if known && now.Sub(since) >= wait {
			lost = append(lost, c)
		}
	}
	f.unclaimed = unclaimed
	return lost
}

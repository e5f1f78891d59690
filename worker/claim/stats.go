package claim

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Stats are the figures of this process's claims since the last heartbeat. A claim that
// saw without the claims' lock that nothing waits is not counted.
type Stats struct {
	Claims    int     `json:"claims"`
	Snapshots int     `json:"looks"` // more than one a claim if lanes had fewer jobs than their rows said
	Jobs      int     `json:"jobs"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`

	// Failing lists the queues whose claims fail now. A queue stays until a claim succeeds.
	Failing []Failing `json:"failing,omitempty"`
}

// Failing says since when every claim of one queue has failed.
type Failing struct {
	Queue string    `json:"queue"`
	Since time.Time `json:"since"` // by this process's clock
	Times int       `json:"times"`
	Error string    `json:"error"` // the last one's, cut at 300 bytes

	// Owners are the owners, by id, whose jobs cannot be claimed. The list is empty if no
	// job of the queue can be claimed, or if there are more than 100 such owners.
	Owners []string `json:"owners,omitempty"`
}

// namedOwners bounds Failing.Owners, because each heartbeat writes them.
const namedOwners = 100

// stats keeps the durations of the last keptTimes claims.
type stats struct {
	mu        sync.Mutex
	claims    int
	snapshots int
	jobs      int
	times     []time.Duration

	failing map[string]Failing // by queue
}

// note records a claim's error, or the owners that the claim left out because their rows
// were locked. A claim without either clears the queue's entry.
func (s *stats) note(queue string, err error, locked lockedOwners, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var owners []string
	if err == nil && len(locked.owners) <= namedOwners {
		owners = locked.owners
	}
	if err = errors.Join(err, locked.why); err == nil {
		delete(s.failing, queue)
		return
	}
	f, known := s.failing[queue]
	if !known {
		f = Failing{Queue: queue, Since: now.UTC()}
	}
	f.Times++
	f.Error, f.Owners = brief(err), owners
	if s.failing == nil {
		s.failing = map[string]Failing{}
	}
	s.failing[queue] = f
}

// brief is an error's text, cut at 300 bytes, valid in a jsonb column.
func brief(err error) string {
	const most = 300
	text := strings.ReplaceAll(err.Error(), "\x00", "")
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

const keptTimes = 1000

func (s *stats) add(took time.Duration, snapshots, jobs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.times) < keptTimes {
		s.times = append(s.times, took)
	} else {
		s.times[s.claims%keptTimes] = took
	}
	s.claims++
	s.snapshots += snapshots
	s.jobs += jobs
}

// now returns what fails, and resets nothing.
func (s *stats) now() []Failing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

func (s *stats) list() []Failing {
	return slices.SortedFunc(maps.Values(s.failing), func(a, b Failing) int { return cmp.Compare(a.Queue, b.Queue) })
}

// take returns the figures and resets them.
func (s *stats) take() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := Stats{Claims: s.claims, Snapshots: s.snapshots, Jobs: s.jobs}
	if n := len(s.times); n > 0 {
		slices.Sort(s.times)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		result.P50, result.P99, result.Max = ms(s.times[n/2]), ms(s.times[n*99/100]), ms(s.times[n-1])
	}
	result.Failing = s.list()
	s.claims, s.snapshots, s.jobs, s.times = 0, 0, 0, s.times[:0]
	return result
}

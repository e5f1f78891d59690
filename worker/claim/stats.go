package claim

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Stats is how this process's claims have gone since the last time somebody asked.
// Claims that found nothing to do without asking for the turn are not in it.
type Stats struct {
	Claims int     `json:"claims"`
	Looks  int     `json:"looks"` // at lanes; more than one a claim where lanes had fewer jobs than they might have
	Jobs   int     `json:"jobs"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`

	// Failing has a queue as long as its claims fail, whenever somebody asks.
	Failing []Failing `json:"failing,omitempty"`
}

// Failing says since when the claims for one queue have failed, all of them.
type Failing struct {
	Queue string    `json:"queue"`
	Since time.Time `json:"since"` // by this process's clock
	Times int       `json:"times"`
	Error string    `json:"error"` // the last one's, cut at 300 bytes
}

// stats keeps the times of the last claims, 1,000 at most.
type stats struct {
	mu     sync.Mutex
	claims int
	looks  int
	jobs   int
	times  []time.Duration

	failing map[string]Failing // by queue
}

// note notes whether a claim for a queue has failed.
func (s *stats) note(queue string, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failing, queue)
		return
	}
	f, known := s.failing[queue]
	if !known {
		f = Failing{Queue: queue, Since: now.UTC()}
	}
	f.Times++
	f.Error = brief(err)
	if s.failing == nil {
		s.failing = map[string]Failing{}
	}
	s.failing[queue] = f
}

// brief is an error's text that a JSON column can hold.
func brief(err error) string {
	const most = 300
	text := strings.ReplaceAll(err.Error(), "\x00", "")
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

const keptTimes = 1000

func (s *stats) add(took time.Duration, looks, jobs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.times) < keptTimes {
		s.times = append(s.times, took)
	} else {
		s.times[s.claims%keptTimes] = took
	}
	s.claims++
	s.looks += looks
	s.jobs += jobs
}

// take returns the figures and begins anew.
func (s *stats) take() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := Stats{Claims: s.claims, Looks: s.looks, Jobs: s.jobs}
	if n := len(s.times); n > 0 {
		slices.Sort(s.times)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		result.P50, result.P99, result.Max = ms(s.times[n/2]), ms(s.times[n*99/100]), ms(s.times[n-1])
	}
	result.Failing = slices.SortedFunc(maps.Values(s.failing), func(a, b Failing) int { return cmp.Compare(a.Queue, b.Queue) })
	s.claims, s.looks, s.jobs, s.times = 0, 0, 0, s.times[:0]
	return result
}

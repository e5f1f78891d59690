package claim

import (
	"slices"
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
}

// stats keeps the times of the last claims, 1,000 at most.
type stats struct {
	mu     sync.Mutex
	claims int
	looks  int
	jobs   int
	times  []time.Duration
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
	s.claims, s.looks, s.jobs, s.times = 0, 0, 0, s.times[:0]
	return result
}

package claim_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/worker/claim"
)

// slotsSim runs jobs of a process in virtual time: claims are real, and each job takes
// as long as its tenant's jobs do, on a clock that jumps from end to end.
type slotsSim struct {
	f       *fleet
	p       *process
	slots   int
	now     time.Time
	running []runningJob
	length  map[string]time.Duration // of a tenant's jobs
	vary    func() float64           // what a job takes of that
	waiting map[string]int           // rows of a tenant that are not claimed yet
	claimed func(tenant string)
}

type runningJob struct {
	row *rivertype.JobRow
	end time.Time
}

func newSim(t testing.TB, tenants, slots int) *slotsSim {
	s := &slotsSim{f: newFleet(t, tenants, 1), slots: slots, now: time.Now(), length: map[string]time.Duration{}, waiting: map[string]int{},
		claimed: func(string) {}, vary: func() float64 { return 1 }}
	s.p = s.f.process(slots, "a")
	claim.SetClock(s.p.lease, func() time.Time { return s.now })
	return s
}

func (s *slotsSim) enqueue(tenant, n int) {
	s.f.exec(addJobs, n, "a", tenant, tenant)
	s.waiting[s.f.tenant(tenant)] += n
}

// until works until a moment.
func (s *slotsSim) until(ctx context.Context, end time.Time) {
	for {
		if free := s.slots - len(s.running); free > 0 {
			for _, row := range s.p.claim(ctx, free) {
				tenant := tenantOf(row)
				s.waiting[tenant]--
				s.claimed(tenant)
				s.running = append(s.running, runningJob{row, s.now.Add(time.Duration(s.vary() * float64(s.length[tenant])))})
			}
		}
		slices.SortFunc(s.running, func(a, b runningJob) int { return a.end.Compare(b.end) })
		if len(s.running) == 0 || s.running[0].end.After(end) {
			s.now = end
			return
		}
		s.now = s.running[0].end
		for len(s.running) > 0 && !s.running[0].end.After(s.now) {
			s.p.finish(s.running[0].row)
			s.running = s.running[1:]
		}
	}
}

// A tenant that returns from a rest is served before any other has received more than
// a few turns of the tenant's, one turn of its own, and one set of all slots: whatever
// has been before.
func TestWhoRestedWaitsForSomeTurnsOnly(t *testing.T) {
	checks := flag.Lookup("rapid.checks") // shared with others, so this test is not parallel
	before := checks.Value.String()
	require.NoError(t, checks.Value.Set("8")) // of some 300 ms each
	t.Cleanup(func() { _ = checks.Value.Set(before) })
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		tenants := rapid.IntRange(2, 4).Draw(rt, "tenants")
		s := newSim(t, tenants, rapid.SampledFrom([]int{4, 10}).Draw(rt, "slots"))
		weight := map[string]float64{}
		for n := 1; n <= tenants; n++ {
			id := s.f.tenant(n)
			weight[id] = rapid.SampledFrom([]float64{0.5, 1, 2, 4}).Draw(rt, "weight")
			s.length[id] = rapid.SampledFrom([]time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second}).Draw(rt, "length")
			s.f.exec(`INSERT INTO headgate.tenant_limits (tenant_id, weight) VALUES ($1, $2)`, id, weight[id])
		}
		expected := func(id string) (cost float64) {
			require.NoError(t, s.f.pool.QueryRow(ctx, `
SELECT coalesce((SELECT cost FROM headgate.lanes WHERE lane = $1), (SELECT cost FROM headgate.lane_clocks))`, id).Scan(&cost))
			return cost
		}
		turn := func(id string, cost float64) float64 {
			return max(s.length[id].Seconds(), cost, 0.05) / weight[id]
		}
		type absence struct {
			turn     float64            // of who returned
			received map[string]float64 // by others since, over their weights
		}
		returned := map[string]*absence{}
		s.claimed = func(id string) {
			delete(returned, id)
			for _, a := range returned {
				a.received[id] += s.length[id].Seconds() / weight[id]
			}
			for who, a := range returned {
				bound := 5*a.turn + 2*turn(id, 0) + float64(s.slots)*s.length[id].Seconds()/weight[id]
				if a.received[id] > bound+1e-9 {
					rt.Fatalf("%s waits since its return, and %s has received %.2f virtual seconds; the bound is %.2f", who[:8], id[:8], a.received[id], bound)
				}
			}
		}
		for range rapid.IntRange(4, 10).Draw(rt, "steps") {
			n := rapid.IntRange(1, tenants).Draw(rt, "tenant")
			id := s.f.tenant(n)
			if s.waiting[id] == 0 {
				returned[id] = &absence{turn(id, expected(id)), map[string]float64{}}
			}
			switch rapid.SampledFrom([]string{"alone", "backlog", "some", "return"}).Draw(rt, "what") {
			case "alone": // and everybody's jobs end
				s.enqueue(n, 100)
				for len(s.running) > 0 || slices.Max(slices.Collect(maps.Values(s.waiting))) > 0 {
					s.until(ctx, s.now.Add(10*time.Second))
				}
			case "backlog":
				s.enqueue(n, 300)
				s.until(ctx, s.now.Add(100*time.Millisecond))
			case "some":
				s.enqueue(n, 20)
				s.until(ctx, s.now.Add(time.Second))
			default:
				s.enqueue(n, 1)
				s.until(ctx, s.now.Add(5*time.Second))
			}
		}
	})
}

// A tenant whose lane is empty after each of its claims gets no more than its share by
// that: beside a backlog, what it has received counts.
func TestRestingOftenGainsNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, length := range []time.Duration{time.Second} {
		s := newSim(t, 2, 10)
		often, steady := s.f.tenant(1), s.f.tenant(2)
		s.length[often], s.length[steady] = length, 100*time.Millisecond
		chance := rand.New(rand.NewPCG(1, 2)) // jobs that all end at once would be claimed in waves
		s.vary = func() float64 { return 0.5 + chance.Float64() }
		received := map[string]float64{}
		s.claimed = func(id string) { received[id] += s.length[id].Seconds() }
		s.enqueue(2, 2000)
		for start := s.now; s.now.Sub(start) < 10*time.Second; {
			if s.waiting[often] == 0 {
				s.enqueue(1, 1)
			}
			s.until(ctx, s.now.Add(10*time.Millisecond))
		}
		share := received[often] / (received[often] + received[steady])
		t.Logf("jobs of %s, one at a time: %.3f of all", length, share)
		require.Less(t, math.Abs(share-0.5), 0.1, fmt.Sprint(received))
	}
}

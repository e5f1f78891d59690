package claim

import (
	"container/heap"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sim is a queue without a database: owners with endless or with timed jobs, and
// slots. It claims through choose as a claimer does, on a clock of its own.
type sim struct {
	now    float64
	slots  int
	clock  float64
	owners []*simOwner
	ends   endings
	limits limits
}

type simOwner struct {
	name     string
	took     float64   // seconds each job takes
	arrivals []float64 // nil: an endless backlog
	weight   float64
	cap      *int

	vtime, cost float64
	idle        bool
	running     int
	received    float64 // worker-seconds of jobs that have ended
	waits       []float64
}

type ending struct {
	at float64
	o  *simOwner
}

type endings []ending

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].at < e[j].at }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)        { *e = append(*e, x.(ending)) }
func (e *endings) Pop() any          { l := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return l }

// due is how many jobs of an owner wait.
func (o *simOwner) due(now float64) int {
	if o.arrivals == nil {
		return math.MaxInt32
	}
	n := 0
	for n < len(o.arrivals) && o.arrivals[n] <= now {
		n++
	}
	return n
}

// claim fills the free slots, as claimer.transact does.
func (s *sim) claim() {
	for s.ends.Len() < s.slots {
		free := s.slots - s.ends.Len()
		var candidates []candidate
		mine := newUsage()
		byName := map[string]*simOwner{}
		for _, o := range s.owners {
			byName[o.name] = o
			for range o.running {
				mine.run(lane{queue: "default", owner: o.name, kind: "k", server: "s"})
			}
			if o.due(s.now) == 0 {
				o.idle = true
				continue
			}
			if o.idle {
				o.idle, o.vtime = false, max(o.vtime, s.clock-headStart)
			}
			candidates = append(candidates, candidate{owner: o.name, kind: "k", server: "s", vtime: max(o.vtime, s.clock-headStart), cost: o.cost, weight: o.weight, maxRunning: o.cap})
		}
		chosen := choose(candidates, newCapacity("default", s.limits, mine, nil, nil, nil), free, quantum)
		got, first := 0, math.Inf(1)
		for _, t := range chosen.turns {
			o := byName[t.owner.id]
			n := min(t.n, o.due(s.now), free-got)
			if n == 0 {
				continue
			}
			first = min(first, t.owner.vtime)
			o.vtime = max(t.owner.vtime, s.clock)
			for range n {
				got++
				o.running++
				o.vtime += o.cost / o.weight
				if o.arrivals != nil {
					o.waits = append(o.waits, s.now-o.arrivals[0])
					o.arrivals = o.arrivals[1:]
				}
				heap.Push(&s.ends, ending{s.now + o.took, o})
			}
		}
		if got == 0 {
			return
		}
		s.clock = max(s.clock, first)
	}
}

// run lets time pass. Jobs are claimed whenever one has ended, and every
// millisecond.
func (s *sim) run(until float64) {
	for s.now < until {
		s.claim()
		s.now += 0.001
		for s.ends.Len() > 0 && s.ends[0].at <= s.now {
			e := heap.Pop(&s.ends).(ending) //nolint:forcetypeassert // our own
			e.o.running--
			e.o.received += e.o.took
			e.o.vtime = max(e.o.vtime+(e.o.took-e.o.cost)/e.o.weight, s.clock)
			e.o.cost += (e.o.took - e.o.cost) * 0.2
		}
	}
}

func jain(shares []float64) float64 {
	var sum, squares float64
	for _, x := range shares {
		sum, squares = sum+x, squares+x*x
	}
	return sum * sum / (float64(len(shares)) * squares)
}

func backlogged(n int, took float64) []*simOwner {
	owners := make([]*simOwner, n)
	for i := range owners {
		owners[i] = &simOwner{name: fmt.Sprintf("t%03d", i), took: took, weight: 1, cost: 0.02}
	}
	return owners
}

// A hundred owners with a backlog get equal worker-seconds, though the jobs of
// one take ten times as long.
func TestEqualSharesOfTime(t *testing.T) {
	t.Parallel()
	s := &sim{slots: 20, owners: backlogged(100, 0.01)}
	s.owners[7].took = 0.1
	s.run(20)
	shares := make([]float64, len(s.owners))
	for i, o := range s.owners {
		shares[i] = o.received
	}
	require.GreaterOrEqual(t, jain(shares), 0.98)
}

// Three times the weight is three times the worker-seconds.
func TestWeights(t *testing.T) {
	t.Parallel()
	s := &sim{slots: 20, owners: backlogged(10, 0.01)}
	s.owners[0].weight = 3
	s.run(20)
	require.InEpsilon(t, 3, s.owners[0].received/s.owners[1].received, 0.05)
}

// An owner that is alone gets all slots.
func TestALoneOwnerGetsAll(t *testing.T) {
	t.Parallel()
	s := &sim{slots: 20, owners: backlogged(1, 0.01)}
	s.run(5)
	require.GreaterOrEqual(t, s.owners[0].received, 0.95*20*5*0.01/0.011, "a job takes 11 ms of the simulation's clock")
}

// An owner with a job now and then waits for the next slot, not for the backlogs
// of a thousand others.
func TestASparseOwnerWaitsForASlotOnly(t *testing.T) {
	t.Parallel()
	s := &sim{slots: 20, owners: backlogged(1000, 0.01)}
	for i, o := range s.owners { // as wakeSQL spreads a crowd
		o.vtime = quantum * float64(i) / 1000
	}
	quiet := &simOwner{name: "quiet", took: 0.01, weight: 1, cost: 0.02, idle: true}
	for at := 2.0; at < 20; at += 2 { // a quarter of its share
		quiet.arrivals = append(quiet.arrivals, at)
	}
	s.owners = append(s.owners, quiet)
	s.run(21)
	require.Len(t, quiet.waits, 9)
	for _, wait := range quiet.waits {
		require.Less(t, wait, 0.02)
	}
}

// Whatever part of the turns is taken, no limit is exceeded; and while something
// is allowed, something is chosen.
func TestNoLimitIsExceeded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := func(name string) *int {
			if rapid.Bool().Draw(t, name+" limited") {
				n := rapid.IntRange(0, 6).Draw(t, name)
				return &n
			}
			return nil
		}
		l := limits{queue: limit("queue"), kinds: map[string]kindLimit{}, servers: map[string]int{}, halfOpen: map[string]int{}, databases: map[string]int{}}
		for _, kind := range []string{"a", "b"} {
			l.kinds[kind] = kindLimit{limit("all " + kind), limit("per owner " + kind)}
		}
		for _, server := range []string{"s1", "s2"} {
			l.servers[server] = rapid.IntRange(1, 8).Draw(t, "budget")
		}
		if n := limit("half open"); n != nil {
			l.halfOpen["s1"] = *n
		}
		mine, others := newUsage(), newUsage()
		var candidates []candidate
		for i := range rapid.IntRange(1, 8).Draw(t, "owners") {
			name, server := fmt.Sprint("o", i), []string{"s1", "s2", ""}[i%3]
			maximum := limit("owner")
			for _, kind := range []string{"a", "b"} {
				if rapid.Bool().Draw(t, "has lane") {
					candidates = append(candidates, candidate{owner: name, kind: kind, server: server, maxRunning: maximum, weight: 1,
						vtime: rapid.Float64Range(0, 10).Draw(t, "vtime"), cost: rapid.Float64Range(0.001, 1).Draw(t, "cost")})
				}
				for range rapid.IntRange(0, 2).Draw(t, "running") {
					for u := range map[*usage]bool{mine: true, others: true} {
						u.run(lane{queue: "default", owner: name, kind: kind, server: server})
					}
				}
			}
		}
		for _, u := range []*usage{mine, others} { // connections besides those of running jobs, idle or on the way
			for server, s := range u.Servers {
				s.Conns = rapid.IntRange(0, 8).Draw(t, "connections")
				u.Servers[server] = s
			}
		}
		want := rapid.IntRange(1, 20).Draw(t, "want")
		chosen := choose(candidates, newCapacity("default", l, mine, []*usage{others}, nil, nil), want, quantum)

		after := newUsage()
		after.add(mine)
		after.add(others)
		before := newUsage()
		before.add(mine)
		before.add(others)
		var rows []found // what a queue may hold of what was asked for
		for i, turn := range chosen.turns {
			left := turn.n
			for k, c := range turn.owner.lanes {
				for range rapid.IntRange(0, min(turn.most[k], left)).Draw(t, "rows") {
					rows = append(rows, found{turn: i, kind: c.kind, id: int64(len(rows) + 1)})
					left--
				}
			}
		}
		rows = rows[:min(len(rows), want)]
		b := newClaimBatch()
		b.admit("default", chosen.turns, rows, newCapacity("default", l, mine, []*usage{others}, nil, nil), want)
		for _, job := range b.jobs {
			after.run(job.lane)
		}
		require.LessOrEqual(t, len(b.jobs), want)
		_, halfOpen := l.halfOpen["s1"]
		if !halfOpen { // what a breaker keeps back no attempt's end frees
			require.Equal(t, len(b.jobs) < len(rows), b.limited)
		} else if b.limited {
			require.Less(t, len(b.jobs), len(rows))
		}
		within := func(name string, now, was int, most *int) {
			if most != nil && now > *most && now > was {
				t.Fatalf("%s: %d run, %d ran before, the limit is %d", name, now, was, *most)
			}
		}
		within("queue", after.Queues["default"], before.Queues["default"], l.queue)
		for kind, k := range l.kinds {
			all, was := 0, 0
			for owner, kinds := range after.Owners {
				all, was = all+kinds[kind], was+before.Owners[owner][kind]
				within("kind per owner", kinds[kind], before.Owners[owner][kind], k.perOwner)
			}
			within("kind", all, was, k.all)
		}
		for _, c := range candidates {
			sum := func(u *usage) (n int) {
				for _, m := range u.Owners[c.owner] {
					n += m
				}
				return n
			}
			within("owner", sum(after), sum(before), c.maxRunning)
			if c.server != "" {
				budget, own, of := l.servers[c.server], mine.Servers[c.server], others.Servers[c.server].counted()
				was := of + own.counted()
				for _, job := range b.jobs { // it runs on a connection that idles here, or on one more
					if job.server == c.server {
						own.Jobs++
					}
				}
				within("server", of+own.counted(), was, &budget)
				if trying, some := l.halfOpen[c.server]; some {
					within("half open", after.Servers[c.server].Jobs, before.Servers[c.server].Jobs, &trying)
				}
			}
		}
		if len(candidates) > 0 && len(chosen.turns) == 0 && !chosen.limited && !halfOpen {
			t.Fatal("nothing was chosen and nothing is said to be in the way")
		}
	})
}

// A rate is a bucket of tokens that fills evenly.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate   rate
		tokens int
		wait   float64
	}{
		{rate{burst: 10, every: 6}, 10, 0},
		{rate{burst: 10, every: 6, ahead: 6}, 9, 0},
		{rate{burst: 10, every: 6, ahead: 7}, 8, 0},
		{rate{burst: 10, every: 6, ahead: 60}, 0, 6},
		{rate{burst: 1, every: 60, ahead: 42}, 0, 42},
	} {
		require.Equal(t, c.tokens, c.rate.tokens(), c)
		require.InDelta(t, c.wait, c.rate.wait(), 1e-9, c)
	}
}

package claim

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

// Who is served next, as a pure function: no clock, no database. snapshot.go brings the
// candidates, take.go finds and takes what is chosen here.
//
// Each owner (a tenant, or a database for jobs of that scope) has a virtual time: the
// worker-seconds that the owner has received, over its weight. The owner with the lowest
// virtual time is served first, for a quantum. Its time moves on by what the quantum is
// expected to cost, and the next owner is served. What a job really took is adjusted when
// the job ends (adjustments.go). An owner that was idle starts at the queue's present time,
// so it neither waits behind a backlog nor has saved up time.

// candidate is one lane that may have jobs which are due.
type candidate struct {
	owner, kind      string
	server, database string // "" : none, or none is needed
	group            laneGroup
	vtime            float64
	cost             float64 // seconds an attempt is expected to take
	weight           float64
	maxRunning       *int   // of the owner
	cursors          []byte // where its rows begin, as the lane has it
	rate             *rate
}

// rate is an owner's token bucket.
type rate struct {
	burst int     // tokens of a full bucket
	every float64 // seconds between two tokens
	ahead float64 // seconds that the bucket is behind being full
}

// tokens is how many jobs may start now.
func (r *rate) tokens() int {
	return max(r.burst-int(ceil(max(r.ahead, 0)/r.every)), 0)
}

// wait is how long until the next token, in seconds.
func (r *rate) wait() float64 {
	return max(r.ahead-float64(r.burst-1)*r.every, 0)
}

// ceil forgives the last bits of a quotient that should be whole.
func ceil(x float64) float64 { return math.Ceil(x - 1e-9) }

// turn is what one owner gets in one claim: up to n jobs, of each kind up to most.
type turn struct {
	owner *owner
	n     int
	most  []int // beside owner.lanes
}

// owner is all candidates of one tenant or database.
type owner struct {
	id       string
	lanes    []candidate // one for each kind
	vtime    float64
	planned  float64 // where its virtual time will be after this claim
	quantum  int     // jobs served in one go
	perJob   float64 // virtual seconds a job is expected to cost
	position int     // in the order of turns
}

// choice is the outcome.
type choice struct {
	turns []turn
	// limited says that a limit kept something back that might have been served, and
	// that an attempt's end may free it.
	limited bool
	// byLimit says that a limit of the queue, an owner or a kind did.
	byLimit bool
	// full are the servers that did, by id.
	full map[string]bool
	// throttled are owners that have no token now, and for how many seconds.
	throttled map[string]float64
}

// choose spreads want jobs over the candidates, in order of virtual time, within capacity.
//
// The turns at the end are for the case that the turns before have fewer jobs than they may
// have. They ask without regard to capacity, because nobody knows yet what will be left. Of
// what is found then, admit takes what there is capacity for.
func choose(candidates []candidate, capacity *capacity, want int, quantum float64) choice {
	result := choice{full: map[string]bool{}, throttled: map[string]float64{}}
	owners := group(candidates, want, quantum)
	queue := ownerHeap(slices.Clone(owners))
	heap.Init(&queue)
	served := map[string]*turn{}
	left := want
	for left > 0 && queue.Len() > 0 {
		o := queue[0]
		n := result.give(capacity, served, o, min(o.quantum, left))
		left -= n
		if n < min(o.quantum, left+n) { // its capacity is used up
			heap.Pop(&queue)
			continue
		}
		o.planned += float64(n) * o.perJob
		heap.Fix(&queue, 0)
	}
	for extra, i := want, 0; extra > 0 && i < len(owners); i++ {
		if o := owners[i]; served[o.id] == nil {
			served[o.id] = o.ask(o.quantum)
			extra--
		}
	}
	for _, o := range owners {
		if t := served[o.id]; t != nil {
			result.turns = append(result.turns, *t)
		}
	}
	return result
}

// group makes owners of candidates, in the order of their virtual times.
func group(candidates []candidate, want int, quantum float64) []*owner {
	byLane := map[string]*owner{}
	var owners []*owner
	for _, c := range candidates {
		o := byLane[c.owner]
		if o == nil {
			o = &owner{id: c.owner, vtime: c.vtime}
			byLane[c.owner] = o
			owners = append(owners, o)
		}
		o.vtime = max(o.vtime, c.vtime)
		o.lanes = append(o.lanes, c)
	}
	for _, o := range owners {
		cost := 0.0
		for _, c := range o.lanes {
			cost += max(c.cost, shortest)
		}
		o.planned = o.vtime
		o.perJob = cost / float64(len(o.lanes)) / o.lanes[0].weight
		o.quantum = min(max(int(quantum/o.perJob), 1), max(want/4, 1))
	}
	slices.SortStableFunc(owners, func(a, b *owner) int { return cmp.Compare(a.vtime, b.vtime) })
	for i, o := range owners {
		o.position = i
	}
	return owners
}

// shortest is what an attempt costs at least, so that a quantum is finite.
const shortest = 20e-6

// give adds up to n jobs to an owner's turn, and returns how many there is capacity for. Of
// which kinds they will be is decided by priority when they are taken, so each kind counts
// as if all of them were of that kind.
func (c *choice) give(capacity *capacity, served map[string]*turn, o *owner, n int) int {
	allowed, why := capacity.owner(o.lanes[0], n)
	server := o.server()
	conns, whyServer := capacity.server(server, allowed)
	kinds, sum, missing := make([]int, len(o.lanes)), 0, other
	for i, lane := range o.lanes {
		kinds[i] = capacity.kind(lane, allowed)
		if lane.server != "" && conns < kinds[i] {
			kinds[i], missing = conns, whyServer
		}
		sum += kinds[i]
	}
	if sum < allowed {
		allowed, why = sum, missing
	}
	if allowed < n {
		c.note(o, why)
	}
	if allowed == 0 {
		return 0
	}
	t := served[o.id]
	if t == nil {
		t = &turn{owner: o, most: make([]int, len(o.lanes))}
		served[o.id] = t
	}
	t.n += allowed
	capacity.reserveOwner(o.lanes[0], allowed)
	needing := 0
	for i, lane := range o.lanes {
		kinds[i] = min(kinds[i], allowed)
		t.most[i] += kinds[i]
		capacity.reserveKind(lane, kinds[i])
		if lane.server != "" {
			needing += kinds[i]
		}
	}
	capacity.reserveServer(server, min(needing, allowed))
	return allowed
}

// server is where those of the owner's jobs run that need a connection; "" : none do.
func (o *owner) server() string {
	for _, l := range o.lanes {
		if l.server != "" {
			return l.server
		}
	}
	return ""
}

// ask is a turn of up to n jobs, of whatever kind.
func (o *owner) ask(n int) *turn {
	t := &turn{owner: o, n: n, most: make([]int, len(o.lanes))}
	for i := range t.most {
		t.most[i] = n
	}
	return t
}

// note remembers why an owner does not get more.
func (c *choice) note(o *owner, why reason) {
	switch why {
	case broken:
	case noToken:
		c.throttled[o.id] = o.lanes[0].rate.wait()
	case noServer:
		c.full[o.server()] = true
		c.limited = true
	default:
		c.limited, c.byLimit = true, true
	}
}

// ownerHeap has the owner on top whose planned virtual time is lowest.
type ownerHeap []*owner

func (h ownerHeap) Len() int { return len(h) }
func (h ownerHeap) Less(i, j int) bool {
	if h[i].planned != h[j].planned {
		return h[i].planned < h[j].planned
	}
	return h[i].position < h[j].position
}
func (h ownerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is never needed; it completes heap.Interface.
func (h *ownerHeap) Push(x any) { *h = append(*h, x.(*owner)) } //nolint:forcetypeassert // ours alone

// Pop is called by heap.Pop.
func (h *ownerHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

package claim

import (
	"math"
	"time"

	"github.com/headgate/headgate/worker/tenantdb"
)

// A server's budget is there to be used. A process keeps connections above those of its
// running jobs as long as there is capacity, because to close one and make another costs as
// much as a hundred jobs. The number of connections that the process may keep so is its
// part.
//
//   - A part never takes the last connection of another process that lives. One connection
//     stays free for each process that has none, whether that process has asked or not.
//   - While another process waits for the server, the part is no more than the budget divided
//     by the processes that are at work there or wait. What was given up is left to the others
//     for at least one claim, and no jobs beyond the part are claimed.
//   - A part lapses (tenantdb/shares.go): of a process that has published nothing for so long,
//     only the connections of running jobs count. No clock but the observer's own decides that,
//     by how long the same row has stood unchanged. The row's writer has stopped counting on its
//     part before, because it wrote the row before anybody read it.

// parts is what other processes leave of each server's budget, as of one snapshot.
type parts struct {
	budgets   map[string]int
	conns     map[string]int  // connections that count as others'
	connected map[string]int  // how many of the processes that claim have any
	about     map[string]int  // how many others have running jobs there, or wait
	wanted    map[string]bool // others wait
	claiming  int             // how many others claim
}

func newParts(l limits, others []*usage) *parts {
	p := &parts{
		budgets: l.servers, conns: map[string]int{}, connected: map[string]int{},
		about: map[string]int{}, wanted: map[string]bool{},
	}
	for _, other := range others {
		if other.claiming {
			p.claiming++
		}
		about := map[string]bool{}
		for id, s := range other.Servers {
			p.conns[id] += s.counted()
			if other.claiming && s.counted() > 0 {
				p.connected[id]++
			}
			if s.Jobs > 0 {
				about[id] = true
			}
		}
		for _, id := range other.Wants {
			about[id], p.wanted[id] = true, true
		}
		for id := range about {
			p.about[id]++
		}
	}
	return p
}

// left is how many connections of a server this process may have, running jobs
// aside.
func (p *parts) left(server string) int {
	budget, some := p.budgets[server]
	if !some {
		return math.MaxInt
	}
	return max(budget-p.conns[server]-max(p.claiming-p.connected[server], 0), 0)
}

// fair is the part of each, rounded up, of those who are at work there or wait.
func (p *parts) fair(server string) int {
	n := 1 + p.about[server]
	return (p.budgets[server] + n - 1) / n
}

// keep is how many connections of a server this process may keep above its running
// jobs', and whether others wait for them.
func (p *parts) keep(server string) (keep int, wanted bool) {
	if p == nil { // before the first snapshot
		return math.MaxInt, false
	}
	if keep = p.left(server); p.wanted[server] {
		return min(keep, p.fair(server)), true
	}
	return keep, false
}

// observed is what this process knows of another's row in headgate.hands.
type observed struct {
	version string
	since   time.Time // when it was first seen so
}

// unheard is added to the time after which another's part counts no more, because two
// machines' seconds are not the same.
const unheard = 500 * time.Millisecond

// observe notes the rows of a snapshot, and takes away what has lapsed. turn is held.
func (g *claimGate) observe(others []*usage, now time.Time) {
	seen := make(map[string]observed, len(others))
	for _, other := range others {
		s, known := g.seen[other.incarnation]
		if !known || s.version != other.version {
			s = observed{other.version, now}
		}
		seen[other.incarnation] = s
		if lapse := time.Duration(other.Lapse) * time.Millisecond; lapse > 0 && now.Sub(s.since) >= lapse+unheard {
			other.lapse()
		}
	}
	g.seen = seen
}

// lapse leaves what belongs to running jobs.
func (u *usage) lapse() {
	u.Wants = nil
	for id, s := range u.Servers {
		s.Conns, s.Idle = max(s.Conns-s.Idle, 0), 0
		u.Servers[id] = s
	}
}

// grow adds to the usage that this process is about to publish what the process needs, as
// far as its parts go, and says which connections lapse.
func (c *claimer) grow(mine *usage, all *claimBatch, own *parts, shares map[string]tenantdb.Share) {
	fresh := map[string]int{}
	for _, job := range all.jobs {
		fresh[job.server]++
	}
	for id, share := range shares {
		s := mine.Servers[id]
		if _, wanted := own.keep(id); !wanted && share.Need > 0 {
			s.Conns = max(s.Conns, min(s.counted()+share.Need, own.left(id)))
		}
		s.Idle = max(s.counted()-max(s.Jobs, share.Busy+fresh[id]), 0)
		mine.Servers[id] = s
	}
	mine.Lapse = int(c.gate.conns.Lapse() / time.Millisecond)
}

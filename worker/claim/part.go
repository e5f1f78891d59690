package claim

import (
	"math"
	"time"

	"github.com/headgate/headgate/worker/tenantdb"
)

// A server's budget is there to be used: a process keeps connections above those of
// its running jobs as long as there is room, because to close one and make another
// costs as much as a hundred jobs. What it may keep so is its part.
//
//   - A part never takes the last connection of another process that lives: one stays
//     free for each that has none, whether it has asked or not.
//   - While another process waits for the server, the part is no more than the budget
//     divided by those that are at work there or wait; what was given up is left to
//     the others for at least one claim; and no jobs beyond the part are claimed.
//   - A part lapses (tenantdb/shares.go): of a process that has published nothing for
//     so long, only the running jobs' places count. Nobody's clock but the observer's
//     own decides that, by how long the same row has stood under its eyes: whoever
//     wrote it has stopped to count on its part before, since it wrote it before.

// parts is what other processes leave of each server's budget, as of one look.
type parts struct {
	budgets map[string]int
	places  map[string]int  // that others hold
	holding map[string]int  // how many of those who claim hold any
	about   map[string]int  // how many others have running jobs there, or wait
	wanted  map[string]bool // others wait
	taking  int             // how many others claim
}

func newParts(l limits, others []*hold) *parts {
	p := &parts{
		budgets: l.servers, places: map[string]int{}, holding: map[string]int{},
		about: map[string]int{}, wanted: map[string]bool{},
	}
	for _, o := range others {
		if o.taking {
			p.taking++
		}
		about := map[string]bool{}
		for id, s := range o.Servers {
			p.places[id] += s.places()
			if o.taking && s.places() > 0 {
				p.holding[id]++
			}
			if s.Jobs > 0 {
				about[id] = true
			}
		}
		for _, id := range o.Wants {
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
	return max(budget-p.places[server]-max(p.taking-p.holding[server], 0), 0)
}

// fair is the part of each, rounded up, of those who are at work there or wait.
func (p *parts) fair(server string) int {
	n := 1 + p.about[server]
	return (p.budgets[server] + n - 1) / n
}

// keep is how many connections of a server this process may keep above its running
// jobs', and whether others wait for them.
func (p *parts) keep(server string) (keep int, wanted bool) {
	if p == nil { // before the first look
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

// unheard is added to the time after which another's part counts no more, since two
// machines' seconds are not the same.
const unheard = 500 * time.Millisecond

// observe notes the rows of a look, and takes away what has lapsed. turn is held.
func (d *desk) observe(others []*hold, now time.Time) {
	seen := make(map[string]observed, len(others))
	for _, o := range others {
		s, known := d.seen[o.incarnation]
		if !known || s.version != o.version {
			s = observed{o.version, now}
		}
		seen[o.incarnation] = s
		if lapse := time.Duration(o.Lapse) * time.Millisecond; lapse > 0 && now.Sub(s.since) >= lapse+unheard {
			o.lapse()
		}
	}
	d.seen = seen
}

// lapse leaves what belongs to running jobs.
func (h *hold) lapse() {
	h.Wants = nil
	for id, s := range h.Servers {
		s.Conns, s.Idle = max(s.Conns-s.Idle, 0), 0
		h.Servers[id] = s
	}
}

// grow adds to what this process is about to publish what it needs, as far as its
// parts go, and says which of it lapses.
func (c *claimer) grow(mine *hold, all *haul, own *parts, shares map[string]tenantdb.Share) {
	fresh := map[string]int{}
	for _, g := range all.grips {
		fresh[g.server]++
	}
	for id, share := range shares {
		s := mine.Servers[id]
		if _, wanted := own.keep(id); !wanted && share.Need > 0 {
			s.Conns = max(s.Conns, min(s.places()+share.Need, own.left(id)))
		}
		s.Idle = max(s.places()-max(s.Jobs, share.Busy+fresh[id]), 0)
		mine.Servers[id] = s
	}
	mine.Lapse = int(c.desk.conns.Lapse() / time.Millisecond)
}

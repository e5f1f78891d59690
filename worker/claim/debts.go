package claim

import (
	"math"
	"slices"
	"time"
)

// What owners owe for attempts that took longer, or less long, than they were
// charged for when they were claimed. A claim charges whom it looks at for it, and
// writes what it must: the debts of owners whose lanes it writes anyway, and those
// that are due. It costs what it looks at and what has ended since the last claim,
// however many owners this process has worked for.

// debts are those of one queue.
type debts struct {
	owners map[string]*owing
	due    map[string]bool // owners whose debt is not to wait
}

// owing is what one owner owes.
type owing struct {
	vtime float64 // to be added to its own: worker-seconds over weight
	lanes []ended
}

// ended are attempts of one kind that have ended, for its lane's mean cost.
type ended struct {
	kind     string
	seconds  float64
	attempts int
}

// maxOwing bounds the owners whose small debts wait.
const maxOwing = 2000

func newDebts() *debts { return &debts{owners: map[string]*owing{}, due: map[string]bool{}} }

// add charges an owner, or gives back what it was charged too much. What is small
// waits until its lanes are written anyway, and this process goes by it meanwhile;
// but to an owner without a backlog it is given back at once: its next job would
// else be looked for behind those of others.
func (d *debts) add(owner string, o owing, backlog bool) {
	sum := d.owners[owner]
	if sum == nil {
		sum = &owing{}
		d.owners[owner] = sum
	}
	sum.vtime += o.vtime
	for _, e := range o.lanes {
		sum.ended(e)
	}
	if math.Abs(sum.vtime) >= quantum || sum.vtime < 0 && (!backlog || d.due[owner]) {
		d.due[owner] = true
	} else {
		delete(d.due, owner)
	}
}

func (o *owing) ended(e ended) {
	for i := range o.lanes {
		if l := &o.lanes[i]; l.kind == e.kind {
			l.seconds, l.attempts = l.seconds+e.seconds, l.attempts+e.attempts
			return
		}
	}
	o.lanes = append(o.lanes, e)
}

// take takes out what a claim writes that bills these owners and has found these
// lanes empty. What owners owe whose rows somebody else has locked waits.
func (d *debts) take(billed map[string]float64, empty []lane, locked []string) map[string]owing {
	taken := map[string]owing{}
	one := func(owner string) bool {
		o := d.owners[owner]
		if o == nil || slices.Contains(locked, owner) {
			return false
		}
		taken[owner] = *o
		delete(d.owners, owner)
		delete(d.due, owner)
		return true
	}
	for owner := range billed {
		one(owner)
	}
	for _, l := range empty {
		one(l.owner)
	}
	for owner := range d.due {
		one(owner)
	}
	if len(d.owners) > maxOwing {
		more := max(maxOwing/10, 2*len(billed)) // than have come since the last claim
		for owner := range d.owners {
			if !one(owner) {
				continue
			}
			if more--; more == 0 {
				break
			}
		}
	}
	return taken
}

// owedIn are the debts of a queue. mu is held.
func (h *hand) owedIn(queue string) *debts {
	d := h.owed[queue]
	if d == nil {
		d = newDebts()
		h.owed[queue] = d
	}
	return d
}

// ends charges for an attempt that is over. mu is held.
func (h *hand) ends(g *grip, now time.Time) {
	took := max(now.Sub(g.began).Seconds(), 0)
	h.owedIn(g.queue).add(g.owner, owing{(took - g.bill) / g.weight, []ended{{g.kind, took, 1}}}, g.more)
	g.bill = took
}

// accrue charges for what is running in a queue, as soon as it has taken twice as
// long as was charged for it: an owner with long jobs does not wait for their end
// to be known as such. It names the lane, which may be at rest by then.
func (h *hand) accrue(queue string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.held {
		if took := now.Sub(g.began).Seconds(); !g.over && g.queue == queue && took > 2*g.bill+0.005 {
			h.owedIn(queue).add(g.owner, owing{(took - g.bill) / g.weight, []ended{{kind: g.kind}}}, g.more)
			g.bill = took
		}
	}
}

// charge applies debts to what a look saw; nobody falls behind floor.
func (h *hand) charge(queue string, candidates []candidate, floor float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.owedIn(queue)
	for i := range candidates {
		c := &candidates[i]
		if o := d.owners[c.lane]; o != nil {
			c.vtime += o.vtime
		}
		c.vtime = max(c.vtime, floor)
	}
}

// pay takes out what a claim writes, and adds it to what it has paid before. The
// owners whose lanes were found empty have no backlog any more.
func (h *hand) pay(queue string, billed map[string]float64, empty []lane, locked []string, paid map[string]owing) map[string]owing {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(empty) > 0 {
		resting := make(map[string]bool, len(empty))
		for _, l := range empty {
			resting[l.owner] = true
		}
		for _, g := range h.held {
			g.more = g.more && (g.queue != queue || !resting[g.owner])
		}
	}
	taken := h.owedIn(queue).take(billed, empty, locked)
	for owner, o := range taken {
		sum := paid[owner]
		sum.vtime += o.vtime
		for _, e := range o.lanes {
			sum.ended(e)
		}
		paid[owner] = sum
	}
	return taken
}

// restore puts back what a claim that failed has not written.
func (h *hand) restore(queue string, paid map[string]owing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for owner, o := range paid {
		h.owedIn(queue).add(owner, o, false)
	}
}

package claim

import (
	"math"
	"slices"
	"time"
)

// An owner is charged for its jobs when they are claimed, by what they are expected to
// take. The adjustments here are what the attempts took more, or less.
//
// A claim applies the adjustments of the owners that it looks at. It writes as few as
// possible: those of owners whose lanes it writes anyway, and those that are due. A claim
// costs what it looks at and what has ended since the last claim, however many owners this
// process has worked for.

// adjustments are those of one queue.
type adjustments struct {
	owners map[string]*adjustment
	due    map[string]bool // owners whose adjustment is not to wait
}

// adjustment is one owner's.
type adjustment struct {
	vtime float64 // to be added to the owner's: worker-seconds over weight
	lanes []ended
}

// ended are attempts of one kind that have ended. They move the mean cost of their lane.
type ended struct {
	kind     string
	seconds  float64
	attempts int
}

// maxAdjustments bounds the owners whose small adjustments wait.
const maxAdjustments = 2000

func newAdjustments() *adjustments {
	return &adjustments{owners: map[string]*adjustment{}, due: map[string]bool{}}
}

// add charges an owner, or gives back what was charged too much. A small adjustment waits
// until a claim writes the owner's lanes anyway; this process goes by the adjustment
// meanwhile. An owner without a backlog gets its time back at once, because its next job
// would else be looked for behind those of others.
func (a *adjustments) add(owner string, adj adjustment, backlog bool) {
	sum := a.owners[owner]
	if sum == nil {
		sum = &adjustment{}
		a.owners[owner] = sum
	}
	sum.vtime += adj.vtime
	for _, e := range adj.lanes {
		sum.ended(e)
	}
	if math.Abs(sum.vtime) >= quantum || sum.vtime < 0 && (!backlog || a.due[owner]) {
		a.due[owner] = true
	} else {
		delete(a.due, owner)
	}
}

func (adj *adjustment) ended(e ended) {
	for i := range adj.lanes {
		if l := &adj.lanes[i]; l.kind == e.kind {
			l.seconds, l.attempts = l.seconds+e.seconds, l.attempts+e.attempts
			return
		}
	}
	adj.lanes = append(adj.lanes, e)
}

// take takes out what a claim writes that bills these owners and has found these lanes
// empty. The adjustments of owners whose rows somebody else has locked wait.
func (a *adjustments) take(billed map[string]float64, empty []lane, locked []string) map[string]adjustment {
	taken := map[string]adjustment{}
	one := func(owner string) bool {
		adj := a.owners[owner]
		if adj == nil || slices.Contains(locked, owner) {
			return false
		}
		taken[owner] = *adj
		delete(a.owners, owner)
		delete(a.due, owner)
		return true
	}
	for owner := range billed {
		one(owner)
	}
	for _, l := range empty {
		one(l.owner)
	}
	for owner := range a.due {
		one(owner)
	}
	if len(a.owners) > maxAdjustments {
		more := max(maxAdjustments/10, 2*len(billed)) // than have come since the last claim
		for owner := range a.owners {
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

// adjustmentsOf are those of a queue. mu is held.
func (f *inflight) adjustmentsOf(queue string) *adjustments {
	a := f.adjustments[queue]
	if a == nil {
		a = newAdjustments()
		f.adjustments[queue] = a
	}
	return a
}

// chargeEnded charges for an attempt that is over. mu is held.
func (f *inflight) chargeEnded(job *inflightJob, now time.Time) {
	took := max(now.Sub(job.began).Seconds(), 0)
	f.adjustmentsOf(job.queue).add(job.owner, adjustment{(took - job.bill) / job.weight, []ended{{job.kind, took, 1}}}, job.more)
	job.bill = took
}

// chargeRunning charges for what is running in a queue, as soon as a job has taken twice as
// long as was charged for it. So an owner with long jobs is charged before they end. The
// adjustment names the lane, which may be at rest by then.
func (f *inflight) chargeRunning(queue string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, job := range f.jobs {
		if took := now.Sub(job.began).Seconds(); !job.over && job.queue == queue && took > 2*job.bill+0.005 {
			f.adjustmentsOf(queue).add(job.owner, adjustment{(took - job.bill) / job.weight, []ended{{kind: job.kind}}}, job.more)
			job.bill = took
		}
	}
}

// applyAdjustments applies adjustments to the candidates of a snapshot. Nobody's virtual
// time is before earliest.
func (f *inflight) applyAdjustments(queue string, candidates []candidate, earliest float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.adjustmentsOf(queue)
	for i := range candidates {
		c := &candidates[i]
		if adj := a.owners[c.owner]; adj != nil {
			c.vtime += adj.vtime
		}
		c.vtime = max(c.vtime, earliest)
	}
}

// takeAdjustments takes out what a claim writes, and adds it to what the claim has applied
// before. The owners whose lanes were found empty have no backlog any more.
func (f *inflight) takeAdjustments(queue string, billed map[string]float64, empty []lane, locked []string, applied map[string]adjustment) map[string]adjustment {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(empty) > 0 {
		resting := make(map[string]bool, len(empty))
		for _, l := range empty {
			resting[l.owner] = true
		}
		for _, job := range f.jobs {
			job.more = job.more && (job.queue != queue || !resting[job.owner])
		}
	}
	taken := f.adjustmentsOf(queue).take(billed, empty, locked)
	for owner, adj := range taken {
		sum := applied[owner]
		sum.vtime += adj.vtime
		for _, e := range adj.lanes {
			sum.ended(e)
		}
		applied[owner] = sum
	}
	return taken
}

// restoreAdjustments puts back what a claim that failed has not written.
func (f *inflight) restoreAdjustments(queue string, applied map[string]adjustment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for owner, adj := range applied {
		f.adjustmentsOf(queue).add(owner, adj, false)
	}
}

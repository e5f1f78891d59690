package claim

import (
	"maps"
	"slices"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// claimBatch is what one claim, or one pass of a claim, takes.
type claimBatch struct {
	result    *riverdriver.JobGetAvailableResult
	jobs      map[int64]*inflightJob
	order     map[int64]int      // of the rows as they were found, from 1
	passes    []*claimBatch      // the passes whose rows are yet to be taken
	want      int                // how many jobs it may be
	found     int                // rows that were there, some of them beyond a limit
	billed    map[string]float64 // by owner: virtual seconds
	spent     map[string]int     // by owner with a rate
	empty     []lane
	cursors   map[lane]map[int]cursor // by lane and priority: the last row that was taken
	first     float64                 // virtual time of the first owner served
	snapshots int

	clock           float64 // of a whole claim: what moves the queue's clock
	ended           ended
	charged         bool            // lanes were written
	maybeMore       bool            // some turn got all that it asked for
	limited         bool            // a limit kept back what was there, and an attempt's end may free it
	byLimit         bool            // a limit of the queue, an owner or a kind did
	byRate          bool            // an owner's rate did
	full            map[string]bool // servers that did, by id
	lockedElsewhere bool            // somebody else had a row locked
}

// cursor is one of a lane's rows of one priority: when the row is due, and its id. Rows are
// taken in the order of cursors.
type cursor [2]any

// admit takes of what was found as much as there is capacity for, in order, and bills the
// owners. Capacity that is used up stays so; hence what is left of a lane comes after what
// is taken of it.
//
// Where there is capacity for all that was found, nobody competes. Owners that have nothing
// left are then charged when their attempts end, for what these took, which spares a second
// write of their lanes.
//
// admit says which lanes have no more rows that are due. A turn that got all it asked for
// does not know, nor does the turn at which looking ended.
func (b *claimBatch) admit(queue string, turns []turn, all []found, capacity *capacity, want int) {
	b.found = len(all)
	counts := make([]int, len(turns))
	kinds := make([]map[string]int, len(turns))
	left := make([]bool, len(turns))
	for _, f := range all {
		o := turns[f.turn].owner
		c := o.candidate(f.kind)
		counts[f.turn]++
		if kinds[f.turn] == nil {
			kinds[f.turn] = map[string]int{}
		}
		kinds[f.turn][f.kind]++
		n, why := capacity.owner(c, 1)
		if n > 0 {
			n, why = capacity.server(c.server, 1)
		}
		if n == 0 || capacity.kind(c, 1) == 0 {
			b.limited, left[f.turn] = b.limited || why != broken, true
			switch why {
			case noServer:
				b.full[c.server] = true
			case other:
				b.byLimit = true
			}
			continue
		}
		capacity.reserveOwner(c, 1)
		capacity.reserveServer(c.server, 1)
		capacity.reserveKind(c, 1)
		b.add(queue, o, c, f.id)
		at := lane{queue: queue, owner: o.id, kind: f.kind}
		if b.cursors[at] == nil {
			b.cursors[at] = map[int]cursor{}
		}
		b.cursors[at][f.priority] = cursor{f.due, f.id}
	}
	last := len(turns)
	if len(all) >= want && len(all) > 0 {
		last = all[len(all)-1].turn
	}
	for i, t := range turns[:last] {
		b.maybeMore = b.maybeMore || counts[i] >= t.n
		if counts[i] >= t.n || left[i] {
			continue
		}
		empty := 0
		for k, l := range t.owner.lanes {
			if kinds[i][l.kind] < t.most[k] {
				b.empty = append(b.empty, lane{queue: queue, owner: t.owner.id, kind: l.kind})
				empty++
			}
		}
		if counts[i] > 0 && empty == len(t.owner.lanes) && len(all) < want && !b.limited {
			b.billed[t.owner.id] = 0
		}
	}
	for _, f := range all {
		if job := b.jobs[f.id]; job != nil {
			job.more = counts[f.turn] >= max(turns[f.turn].n, longTurn)
			if b.billed[job.owner] == 0 {
				job.bill = 0
			}
		}
	}
}

// longTurn is how many jobs one turn must have brought, all that it asked for, for its
// owner to count as one with a backlog.
const longTurn = 4

// add claims one row and bills its owner.
func (b *claimBatch) add(queue string, o *owner, c candidate, id int64) {
	if len(b.jobs) == 0 {
		b.first = o.vtime
	}
	cost := max(c.cost, shortest)
	b.order[id] = len(b.jobs) + 1
	b.jobs[id] = &inflightJob{
		lane: lane{queue: queue, owner: o.id, kind: c.kind, server: c.server, database: c.database},
		bill: cost, weight: c.weight,
	}
	b.billed[o.id] += cost / c.weight
	if c.rate != nil {
		b.spent[o.id]++
	}
}

// candidate is the owner's lane of one kind.
func (o *owner) candidate(kind string) candidate {
	for _, c := range o.lanes {
		if c.kind == kind {
			return c
		}
	}
	return o.lanes[0]
}

// newClaimBatch is an empty one.
func newClaimBatch() *claimBatch {
	return &claimBatch{
		order:  map[int64]int{},
		result: &riverdriver.JobGetAvailableResult{DecodeErrors: map[int64]error{}},
		jobs:   map[int64]*inflightJob{}, billed: map[string]float64{}, spent: map[string]int{},
		cursors: map[lane]map[int]cursor{}, full: map[string]bool{},
	}
}

// append adds another pass, whose rows are yet to be taken.
func (b *claimBatch) append(more *claimBatch) {
	b.passes = append(b.passes, more)
	maps.Copy(b.jobs, more.jobs)
}

// gather brings the rows of all passes together, once they have been taken.
func (b *claimBatch) gather() {
	for _, p := range b.passes {
		b.result.Jobs = append(b.result.Jobs, p.result.Jobs...)
		maps.Copy(b.result.DecodeErrors, p.result.DecodeErrors)
		if p.lockedElsewhere {
			b.lockedElsewhere = true
			maps.DeleteFunc(b.jobs, func(id int64, _ *inflightJob) bool { return p.order[id] > 0 && p.jobs[id] == nil })
		}
	}
	b.passes = nil
}

// remove takes rows out of a batch.
func (b *claimBatch) remove(ids []int64) {
	b.result.Jobs = slices.DeleteFunc(b.result.Jobs, func(row *rivertype.JobRow) bool { return slices.Contains(ids, row.ID) })
	for _, id := range ids {
		delete(b.result.DecodeErrors, id)
		delete(b.jobs, id)
	}
}

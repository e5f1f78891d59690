package claim

import (
	"maps"
	"slices"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// haul is what one claim, or one pass of it, takes.
type haul struct {
	result *riverdriver.JobGetAvailableResult
	grips  map[int64]*grip
	order  map[int64]int      // of the rows, as they were found, from 1
	passes []*haul            // whose rows are yet to be taken
	want   int                // how many jobs it may be
	found  int                // rows that were there, some of them beyond a limit
	billed map[string]float64 // by owner: virtual seconds
	spent  map[string]int     // by owner with a rate
	empty  []lane
	floors map[lane]map[int]place // by lane and priority: the last row that was taken
	first  float64                // virtual time of the first owner served
	looks  int

	clock   float64 // of a whole claim: what moves the queue's clock
	ended   ended
	charged bool            // lanes were written
	sated   bool            // some turn got all that it asked for, and might have got more
	denied  bool            // a limit kept back what was there, and an attempt's end may free it
	full    map[string]bool // servers that did, by id
	missed  bool            // somebody else had a row locked
}

// place is one of a lane's rows of one priority, in the order in which they are
// taken: when it is due, and its id.
type place [2]any

// admit takes of what was found as much as room has, in order, and bills the
// owners. Where there is room for all that is there nobody competes, and owners
// that have nothing left are charged when their attempts end, for what it was: that
// spares a second write of their lanes. Room that is used up stays so, hence nothing
// is left of a lane before what is taken of it. It says which lanes have no more
// rows that are due: a turn that got all it asked for does not know, nor does the
// one at which looking ended.
func (h *haul) admit(queue string, turns []turn, all []found, room *room, want int) {
	h.found = len(all)
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
		n, why := room.owner(c, 1)
		if n > 0 {
			n, why = room.server(c.server, 1)
		}
		if n == 0 || room.kind(c, 1) == 0 {
			h.denied, left[f.turn] = h.denied || why != broken, true
			if why == noServer {
				h.full[c.server] = true
			}
			continue
		}
		room.takeOwner(c, 1)
		room.takeServer(c.server, 1)
		room.takeKind(c, 1)
		h.add(queue, o, c, f.id)
		at := lane{queue: queue, owner: o.lane, kind: f.kind}
		if h.floors[at] == nil {
			h.floors[at] = map[int]place{}
		}
		h.floors[at][f.priority] = place{f.due, f.id}
	}
	last := len(turns)
	if len(all) >= want && len(all) > 0 {
		last = all[len(all)-1].turn
	}
	for i, t := range turns[:last] {
		h.sated = h.sated || counts[i] >= t.n
		if counts[i] >= t.n || left[i] {
			continue
		}
		empty := 0
		for k, l := range t.owner.lanes {
			if kinds[i][l.kind] < t.most[k] {
				h.empty = append(h.empty, lane{queue: queue, owner: t.owner.lane, kind: l.kind})
				empty++
			}
		}
		if counts[i] > 0 && empty == len(t.owner.lanes) && len(all) < want && !h.denied {
			h.billed[t.owner.lane] = 0
		}
	}
	for _, f := range all {
		if g := h.grips[f.id]; g != nil {
			g.more = counts[f.turn] >= max(turns[f.turn].n, longTurn)
			if h.billed[g.owner] == 0 {
				g.bill = 0
			}
		}
	}
}

// longTurn is how many jobs one turn must have brought, all that it asked for, to
// take it that the owner has a backlog.
const longTurn = 4

// add takes one row in hand and bills its owner.
func (h *haul) add(queue string, o *owner, c candidate, id int64) {
	if len(h.grips) == 0 {
		h.first = o.vtime
	}
	cost := max(c.cost, shortest)
	h.order[id] = len(h.grips) + 1
	h.grips[id] = &grip{
		lane: lane{queue: queue, owner: o.lane, kind: c.kind, server: c.server, database: c.database},
		bill: cost, weight: c.weight,
	}
	h.billed[o.lane] += cost / c.weight
	if c.rate != nil {
		h.spent[o.lane]++
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

// newHaul is an empty one.
func newHaul() *haul {
	return &haul{
		order:  map[int64]int{},
		result: &riverdriver.JobGetAvailableResult{DecodeErrors: map[int64]error{}},
		grips:  map[int64]*grip{}, billed: map[string]float64{}, spent: map[string]int{},
		floors: map[lane]map[int]place{}, full: map[string]bool{},
	}
}

// append adds another pass, whose rows are yet to be taken.
func (h *haul) append(more *haul) {
	h.passes = append(h.passes, more)
	maps.Copy(h.grips, more.grips)
}

// gather brings the rows of all passes together, once they have been taken.
func (h *haul) gather() {
	for _, p := range h.passes {
		h.result.Jobs = append(h.result.Jobs, p.result.Jobs...)
		maps.Copy(h.result.DecodeErrors, p.result.DecodeErrors)
		if p.missed {
			h.missed = true
			maps.DeleteFunc(h.grips, func(id int64, _ *grip) bool { return p.order[id] > 0 && p.grips[id] == nil })
		}
	}
	h.passes = nil
}

// leave takes rows out of a haul.
func (h *haul) leave(ids []int64) {
	h.result.Jobs = slices.DeleteFunc(h.result.Jobs, func(row *rivertype.JobRow) bool { return slices.Contains(ids, row.ID) })
	for _, id := range ids {
		delete(h.result.DecodeErrors, id)
		delete(h.grips, id)
	}
}

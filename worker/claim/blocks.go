package claim

import (
	"slices"
	"time"
)

// blocks is what was full when this process looked last. It spares the look at what
// waits behind, no more: choose goes by what is true now.
type blocks struct {
	servers, kinds []string
	owners         map[string]fullOwner
	// Behind breakers: nobody's end makes room there, only time or what Breaker.Pass
	// tells everybody.
	tried, databases []string
}

// fullOwner is how many jobs of an owner were running when it was found to be at
// its limit, and when that was.
type fullOwner struct {
	running int
	since   time.Time
}

// blocks is what is full now. before is what the candidates leave out: who was at
// its limit a moment ago, and has not got fewer since, is taken to be so still.
func (r *room) blocks(candidates []candidate, before blocks, now time.Time) blocks {
	b := blocks{owners: map[string]fullOwner{}}
	for id := range r.limits.servers {
		if free, why := r.server(id, 1); free == 0 && why == noServer {
			b.servers = append(b.servers, id)
		}
	}
	for id, trying := range r.limits.halfOpen {
		if trying <= r.all.Servers[id].Jobs {
			b.tried = append(b.tried, id)
		}
	}
	for kind, limit := range r.limits.kinds {
		if limit.all != nil && *limit.all <= r.kinds[kind] {
			b.kinds = append(b.kinds, kind)
		}
	}
	for id, trying := range r.limits.databases {
		if trying <= r.all.Databases[id] {
			b.databases = append(b.databases, id)
		}
	}
	for _, c := range candidates {
		if running := r.running(c.lane); c.maxRunning != nil && *c.maxRunning <= running {
			b.owners[c.lane] = fullOwner{running, now}
		}
	}
	for owner, s := range before.owners {
		if now.Sub(s.since) < believe && r.running(owner) >= s.running {
			b.owners[owner] = s
		}
	}
	return b
}

// believe is how long a block is taken for true without another look.
const believe = 200 * time.Millisecond

// full says that limits block something which the end of an attempt may free.
func (b blocks) full() bool { return len(b.servers)+len(b.kinds)+len(b.owners) > 0 }

// blocks says whether a group is left out as a whole.
func (b blocks) blocks(g laneGroup) bool {
	return slices.Contains(b.servers, g.server) || slices.Contains(b.tried, g.server) || slices.Contains(b.kinds, g.kind)
}

// within says that all that b blocks is blocked by wider too.
func (b blocks) within(wider blocks) bool {
	in := func(list, all []string) bool {
		return !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(all, s) })
	}
	for owner := range b.owners {
		if _, still := wider.owners[owner]; !still {
			return false
		}
	}
	return in(b.servers, wider.servers) && in(b.kinds, wider.kinds) && in(b.tried, wider.tried) && in(b.databases, wider.databases)
}

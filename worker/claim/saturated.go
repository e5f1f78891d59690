package claim

import (
	"slices"
	"time"
)

// saturated is what was full when this process looked last. It spares a snapshot what waits
// behind, and no more: choose goes by what is true now.
type saturated struct {
	servers, kinds []string
	owners         map[string]fullOwner
	// These are behind breakers. No end of an attempt frees them, only time or a
	// notification by Breaker.Pass.
	tried, databases []string
}

// fullOwner is how many jobs of an owner were running when it was found to be at
// its limit, and when that was.
type fullOwner struct {
	running int
	since   time.Time
}

// saturated is what is full now. before is what the candidates leave out: an owner that was
// at its limit a moment ago, and has no fewer jobs since, is taken to be there still.
func (cp *capacity) saturated(candidates []candidate, before saturated, now time.Time) saturated {
	b := saturated{owners: map[string]fullOwner{}}
	for id := range cp.limits.servers {
		if free, why := cp.server(id, 1); free == 0 && why == noServer {
			b.servers = append(b.servers, id)
		}
	}
	for id, trying := range cp.limits.halfOpen {
		if trying <= cp.all.Servers[id].Jobs {
			b.tried = append(b.tried, id)
		}
	}
	for kind, limit := range cp.limits.kinds {
		if limit.all != nil && *limit.all <= cp.kinds[kind] {
			b.kinds = append(b.kinds, kind)
		}
	}
	for id, trying := range cp.limits.databases {
		if trying <= cp.all.Databases[id] {
			b.databases = append(b.databases, id)
		}
	}
	for _, c := range candidates {
		if running := cp.running(c.owner); c.maxRunning != nil && *c.maxRunning <= running {
			b.owners[c.owner] = fullOwner{running, now}
		}
	}
	for owner, s := range before.owners {
		if now.Sub(s.since) < saturatedFor && cp.running(owner) >= s.running {
			b.owners[owner] = s
		}
	}
	return b
}

// saturatedFor is how long an owner is taken to be at its limit without another look.
const saturatedFor = 200 * time.Millisecond

// full says that limits keep something back which the end of an attempt may free.
func (b saturated) full() bool { return len(b.servers)+len(b.kinds)+len(b.owners) > 0 }

// covers says whether a group is left out as a whole.
func (b saturated) covers(g laneGroup) bool {
	return slices.Contains(b.servers, g.server) || slices.Contains(b.tried, g.server) || slices.Contains(b.kinds, g.kind)
}

// within says that wider has all that b has.
func (b saturated) within(wider saturated) bool {
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

package orchestrator

import (
	"fmt"
	"time"
)

// overlap does with the occurrences to be fired what the policy says about the run
// before them. Several that are made up for at once are not each other's run
// before, except for the policies that let them wait.
func (l *sight) overlap(d *due, fire []time.Time, out *decision) {
	if len(fire) == 0 {
		return
	}
	busy := l.running[out.last] || len(out.items) > 0 || len(out.waiting) > 0
	skip := func(at time.Time, why string) {
		out.answers = append(out.answers, single(d.id, at, l.now, SkippedOverlap, why))
	}
	before := fmt.Sprintf("job %s has not ended", out.last)
	switch most := 1; d.policy.Overlap {
	case OverlapBufferAll, OverlapBufferOne:
		if d.policy.Overlap == OverlapBufferAll {
			most = d.policy.BufferMax
		}
		if !busy {
			l.enqueue(d, fire[0], originClock, out)
			fire = fire[1:]
		}
		for _, at := range fire {
			if len(out.waiting) < most && out.err == "" {
				out.waiting = append(out.waiting, waiting{At: at.UTC(), Origin: originClock})
				continue
			}
			skip(at, fmt.Sprintf("%s, and %d wait already", before, len(out.waiting)))
		}
	case OverlapCancel:
		newest := fire[len(fire)-1]
		for _, at := range fire[:len(fire)-1] {
			skip(at, "a newer one took its place")
		}
		for _, w := range out.waiting {
			skip(w.At, "a newer one took its place")
		}
		out.waiting = nil
		if !l.running[out.last] {
			l.enqueue(d, newest, originClock, out)
			return
		}
		out.waiting, out.cancel = []waiting{{At: newest.UTC(), Origin: originClock}}, out.last
	case OverlapSkip:
		if busy {
			for _, at := range fire {
				skip(at, before)
			}
			return
		}
		fallthrough
	default:
		for _, at := range fire {
			l.enqueue(d, at, originClock, out)
		}
	}
}

// release fires the occurrence that has waited longest, if the run before it has
// ended.
func (l *sight) release(d *due, out *decision) {
	if len(out.waiting) == 0 || l.running[out.last] || l.whyClosed(d) != "" {
		return
	}
	next := out.waiting[0]
	out.waiting = out.waiting[1:]
	if d.status != "active" && d.status != "moving" {
		a := single(d.id, next.At, l.now, SuspendedTenant, "the tenant is "+d.status)
		a.Origin = next.Origin
		out.answers = append(out.answers, a)
		return
	}
	l.enqueue(d, next.At, next.Origin, out)
}

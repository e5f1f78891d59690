package schedule

import (
	"fmt"
	"time"
)

// ofClock are a schedule's own times.
func ofClock(times []time.Time) []waiting {
	all := make([]waiting, len(times))
	for i, at := range times {
		all[i] = waiting{At: at, Origin: originClock}
	}
	return all
}

// overlap does with the occurrences to be fired what the policy says about the run
// before them. Several that are made up for at once are not each other's run
// before, except for the policies that let them wait.
func (l *snapshot) overlap(d *dueSchedule, fire []waiting, out *decision) {
	if len(fire) == 0 {
		return
	}
	busy := l.running[out.last] != "" || len(out.items) > 0 || len(out.waiting) > 0
	skip := func(w waiting, why string) {
		a := single(d.id, w.At, l.now, SkippedOverlap, why)
		a.Origin = w.Origin
		out.answers = append(out.answers, a)
	}
	wait := func(w waiting) waiting {
		w.At = w.At.UTC()
		return w
	}
	before := fmt.Sprintf("job %s has not ended", out.last)
	if stands := l.running[out.last]; stands != "" {
		before += ": " + stands
	}
	switch most := 1; d.Policy.Overlap {
	case OverlapBufferAll, OverlapBufferOne:
		if d.Policy.Overlap == OverlapBufferAll {
			most = d.Policy.BufferMax
		}
		if !busy {
			l.enqueue(d, fire[0], out)
			fire = fire[1:]
		}
		for _, w := range fire {
			if len(out.waiting) < most && out.err == "" {
				out.waiting = append(out.waiting, wait(w))
				continue
			}
			skip(w, fmt.Sprintf("%s, and %d wait already", before, len(out.waiting)))
		}
	case OverlapCancel:
		newest := fire[len(fire)-1]
		for _, w := range fire[:len(fire)-1] {
			skip(w, "a newer one took its place")
		}
		for _, w := range out.waiting {
			skip(w, "a newer one took its place")
		}
		out.waiting = nil
		if l.running[out.last] == "" {
			l.enqueue(d, newest, out)
			return
		}
		out.waiting, out.cancel = []waiting{wait(newest)}, out.last
	case OverlapSkip:
		if busy {
			for _, w := range fire {
				skip(w, before)
			}
			return
		}
		fallthrough
	default:
		for _, w := range fire {
			l.enqueue(d, w, out)
		}
	}
}

// release fires the occurrence that has waited longest, if the run before it has
// ended.
func (l *snapshot) release(d *dueSchedule, out *decision) {
	if len(out.waiting) == 0 || l.running[out.last] != "" || l.whyClosed(d, out.waiting[0].At) != "" {
		return
	}
	next := out.waiting[0]
	out.waiting = out.waiting[1:]
	if outcome, why := d.refusal(); outcome != "" {
		a := single(d.id, next.At, l.now, outcome, why)
		a.Origin = next.Origin
		out.answers = append(out.answers, a)
		return
	}
	l.enqueue(d, next, out)
}

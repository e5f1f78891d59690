package schedule

import (
	"fmt"
	"time"
)

// How late an occurrence may be that no policy makes up for: a little when it is
// alone, for the scheduler may have been busy; nearly nothing when others were
// missed before it.
const (
	graceAlone = time.Minute
	graceAfter = 5 * time.Second
)

// catchUp divides a group into what is fired and answers for the rest.
func (l *snapshot) catchUp(d *dueSchedule, g *group) (fire []time.Time, rest []occurrenceRow) {
	p := &d.Policy
	window := p.CatchUpWindow
	if window == 0 && p.CatchUp == CatchUpNone {
		window = graceAlone
	}
	late := func(at time.Time) time.Duration { return l.now.Sub(l.starts(d, at)) }
	switch p.CatchUp {
	case CatchUpNone:
		if g.count > 1 {
			window = graceAfter
		}
		fire = g.last(1)
	case CatchUpAll:
		fire = g.last(p.CatchUpMax)
	default:
		fire = g.last(1)
	}
	for len(fire) > 0 && window > 0 && late(fire[0]) > window {
		fire = fire[1:]
	}
	if len(fire) == g.count {
		return fire, nil
	}
	if len(fire) == 0 {
		return nil, g.before(d, time.Time{}, l.now, MissedWindow, l.tooLate(d, window))
	}
	begin := fire[0]
	if p.CatchUp == CatchUpNone {
		return fire, g.before(d, begin, l.now, MissedWindow, l.tooLate(d, window))
	}
	coalesced := g.before(d, begin, l.now, Coalesced, fmt.Sprintf("made up for by the one of %s", begin.UTC().Format(time.RFC3339)))
	if window == 0 {
		return fire, coalesced
	}
	edge := l.now.Add(-window - d.mostDelay())
	missed := g.before(d, edge, l.now, MissedWindow, l.tooLate(d, window))
	if len(missed) == 0 {
		return fire, coalesced
	}
	a := missed[0]
	if left := coalesced[0].Count - a.Count; left > 0 {
		b := coalesced[0]
		b.NominalAt, b.Count = g.table.Next(a.LastAt), left
		return fire, append(missed, b)
	}
	return fire, missed
}

func (l *snapshot) tooLate(d *dueSchedule, window time.Duration) string {
	if d.Policy.CatchUp == CatchUpNone {
		return "nothing fired it in time, and catch-up is none"
	}
	return fmt.Sprintf("nothing fired it within its window of %s", window)
}

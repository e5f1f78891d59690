package orchestrator

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// decision is what becomes of one due schedule.
type decision struct {
	answers  []answer
	items    []item // the jobs; each has an answer that names its UID
	next     *time.Time
	nominal  *time.Time
	answered time.Time
	lastRun  *time.Time
	last     string // UID of the last job
	waiting  []waiting
	cancel   string // UID of the job to cancel
	err      string // why it stops
	pause    string // why it is paused
	unpause  bool
}

// decide never fails and never panics: what is wrong with a schedule stops that
// one.
func (l *sight) decide(d *due) (out decision) {
	defer func() {
		if v := recover(); v != nil {
			out = d.stopped(fmt.Sprintf("computing the next time of %q in %s panicked: %v", d.cron, d.zone, v))
		}
	}()
	for _, name := range d.policy.Calendars {
		if err, bad := l.unreadable[name]; bad {
			out, soon := d.stopped(unreadableCalendarsError{name: err}.Error()), l.now.Add(asideFor)
			out.next = &soon
			return out
		}
	}
	table, err := timetable(d.cron, d.zone, &d.policy, l.calendars)
	if err != nil {
		return d.stopped(err.Error())
	}
	out = decision{nominal: d.nominal, last: d.last, waiting: d.waiting, answered: l.now}
	if d.answered != nil {
		out.answered = *d.answered
	}
	if d.paused {
		l.endPause(d, table, &out)
		return out
	}
	if d.fresh && !l.compute(d, table, &out) {
		return out
	}
	due := d.nominal == nil || !d.nominal.Add(d.delay()).After(l.now) || len(d.waiting) == 0
	if !due || d.policy.Overlap != OverlapCancel {
		l.release(d, &out)
	}
	if due {
		l.occur(d, table, &out)
	}
	out.next = nil
	if out.nominal != nil {
		run := out.nominal.Add(d.delay())
		out.next = &run
	}
	if len(out.waiting) > 0 { // look again soon
		if soon := l.now.Add(pollWaiting); out.next == nil || soon.Before(*out.next) {
			out.next = &soon
		}
	}
	if out.err != "" || out.pause != "" {
		out.next = nil
	}
	return out
}

// compute gives a fresh row its next time. It reports true if there is an occurrence
// from before that is due all the same.
func (l *sight) compute(d *due, table *calendar.Schedule, out *decision) bool {
	if n := d.nominal; n != nil && !n.After(l.now) && table.Next(n.Add(-time.Second)).Equal(*n) {
		run := n.Add(d.delay()) // it waits for its place in the spread
		out.next = &run
		return !run.After(l.now)
	}
	if l.now.After(out.answered) {
		out.answered = l.now
	}
	out.nominal, out.next = nil, nil
	if next := table.Next(out.answered); !next.IsZero() {
		run := next.Add(d.delay())
		out.nominal, out.next = &next, &run
	}
	return false
}

// pollWaiting is how often a schedule with waiting occurrences looks whether the
// run before has ended.
const pollWaiting = time.Second

// stopped is a schedule in error.
func (d *due) stopped(why string) decision {
	out := decision{nominal: d.nominal, last: d.last, waiting: d.waiting, answered: d.run, err: clip(why, 500)}
	if d.answered != nil {
		out.answered = *d.answered
	}
	return out
}

// group is the occurrences that have come due together: usually one.
type group struct {
	table       *calendar.Schedule
	first, upto time.Time
	others      int // behind first
	count       int
}

// last returns the last n of the group, in order.
func (g *group) last(n int) []time.Time {
	times := g.table.Last(g.first, g.upto, min(n, g.others))
	if len(times) < n && g.count > g.others {
		times = append([]time.Time{g.first}, times...)
	}
	return times
}

// before gives one answer to all of the group before a time; zero means all.
func (g *group) before(d *due, end time.Time, now time.Time, outcome OccurrenceOutcome, note string) []answer {
	if g.count > g.others && (end.IsZero() || g.first.Before(end)) {
		a := single(d.id, g.first, now, outcome, note)
		upto := g.upto
		if !end.IsZero() {
			upto = end.Add(-time.Second)
		}
		if n := g.table.Count(g.first, upto); n > 0 {
			a.LastAt, a.Count = g.table.Last(g.first, upto, 1)[0], n+1
		}
		return []answer{a}
	}
	upto := g.upto
	if !end.IsZero() {
		upto = end.Add(-time.Second)
	}
	if n := g.table.Count(g.first, upto); n > 0 {
		a := single(d.id, g.table.Next(g.first), now, outcome, note)
		a.LastAt, a.Count = g.table.Last(g.first, upto, 1)[0], n
		return []answer{a}
	}
	return nil
}

// occur answers everything that has come due, and computes what comes next.
func (l *sight) occur(d *due, table *calendar.Schedule, out *decision) {
	g := group{table: table, first: d.run, upto: l.now.Add(-d.delay())}
	if d.nominal != nil && !d.nominal.Add(d.delay()).After(l.now) {
		g.first = *d.nominal
	} else if g.upto.Before(d.run) {
		g.upto = d.run // somebody has moved the row
	}
	next := table.Next(g.first)
	if !next.IsZero() && !next.After(g.upto) {
		g.others = table.Count(g.first, g.upto)
		next = table.Next(g.upto)
	}
	g.count = g.others + 1
	barred := (len(d.policy.Calendars) > 0 || len(d.policy.Windows) > 0) && d.nominal != nil && g.first.Equal(*d.nominal) && !table.Next(g.first.Add(-time.Second)).Equal(g.first)
	if barred { // a calendar has changed since
		g.count--
	}
	since := g.first.Add(-time.Second)
	if d.answered != nil && d.answered.Before(since) {
		since = *d.answered
	}
	out.answers = append(out.answers, skipsOf(table, d.id, since, g.upto, l.now)...)
	out.answered = g.upto
	if g.first.After(out.answered) {
		out.answered = g.first
	}
	out.nominal = nil
	if !next.IsZero() {
		out.nominal = &next
	}
	if g.count == 0 {
		return
	}
	switch {
	case d.status != "active" && d.status != "moving":
		out.answers = append(out.answers, g.before(d, time.Time{}, l.now, SuspendedTenant, "the tenant is "+d.status)...)
		return
	case l.failing[d.id]:
		out.pause = fmt.Sprintf("paused by itself: its last %d jobs have failed", d.policy.PauseAfter)
		out.answers = append(out.answers, g.before(d, time.Time{}, l.now, SkippedPaused, out.pause)...)
		return
	}
	if why := l.whyClosed(d); why != "" {
		out.answers = append(out.answers, g.before(d, time.Time{}, l.now, SkippedExcluded, why)...)
		return
	}
	fire, rest := l.catchUp(d, &g)
	out.answers = append(out.answers, rest...)
	l.overlap(d, fire, out)
}

// enqueue makes a job of an occurrence, or stops the schedule.
func (l *sight) enqueue(d *due, at time.Time, origin string, out *decision) {
	if out.err != "" { // nothing more of this one
		a := single(d.id, at, l.now, FailedToEnqueue, out.err)
		a.Origin = origin
		out.answers = append(out.answers, a)
		return
	}
	it := d.item(at)
	if err := l.fits(&it); err != nil {
		out.err = clip(err.Error(), 500)
		l.enqueue(d, at, origin, out)
		return
	}
	effective := *it.meta.Effective
	a := single(d.id, at, l.now, Fired, "")
	a.Origin, a.JobUID, a.EffectiveAt = origin, it.meta.UID, &effective
	out.answers, out.items = append(out.answers, a), append(out.items, it)
	out.last, out.lastRun = it.meta.UID, &effective
}

// fits refuses a job that could not be made, or that no program would take.
func (l *sight) fits(it *item) error {
	if err := jobs.CheckKind(it.kind); err != nil {
		return err
	}
	if err := it.check(&EnqueueOpts{}, l.now); err != nil {
		return err
	}
	if l.check != nil {
		return l.check(it.kind, it.args)
	}
	return nil
}

// endPause lets a schedule go on whose pause has an end.
func (l *sight) endPause(d *due, table *calendar.Schedule, out *decision) {
	if d.pausedUntil == nil || d.pausedUntil.After(l.now) {
		out.next = d.pausedUntil
		return
	}
	until := *d.pausedUntil
	if until.After(out.answered) {
		out.answers = answersOf(table, d.id, out.answered, until, l.now, SkippedPaused, d.note)
		out.answered = until
	}
	out.unpause, out.nominal, out.next = true, nil, nil
	if next := table.Next(out.answered); !next.IsZero() {
		run := next.Add(d.delay())
		out.nominal, out.next = &next, &run
	}
}

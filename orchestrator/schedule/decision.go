package schedule

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// decision is what becomes of one due schedule.
type decision struct {
	answers  []occurrenceRow
	items    []queue.Draft // the jobs; each has an answer that names its UID
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
	kept     bool // nothing was decided: what needs computing stays so
}

// decide never fails and never panics: what is wrong with a schedule stops that
// one.
func (l *snapshot) decide(d *dueSchedule) (out decision) {
	defer func() {
		if v := recover(); v != nil {
			out = d.stopped(fmt.Sprintf("computing the next time of %q in %s panicked: %v", d.Cron, d.Zone, v))
		}
	}()
	for _, name := range d.Policy.Calendars {
		if err, bad := l.unreadable[name]; bad {
			out, soon := d.stopped(unreadableCalendarsError{name: err}.Error()), l.now.Add(asideFor)
			out.next, out.kept = &soon, true
			return out
		}
	}
	out = decision{nominal: d.nominal, last: d.last, waiting: d.waiting, answered: l.now}
	if d.answered != nil {
		out.answered = *d.answered
	}
	if len(d.former) > 0 && !d.paused {
		if l.answerFormer(d, &out); out.err != "" || out.pause != "" {
			return out
		}
	}
	table, err := d.Timetable(l.calendars)
	if err != nil {
		out.err = fit.Clip(err.Error(), 500)
		return out
	}
	d.table = table
	if d.paused {
		l.endPause(d, table, &out)
		return out
	}
	if d.needsCompute && !l.compute(d, table, &out) {
		return out
	}
	due := d.nominal == nil || !l.starts(d, *d.nominal).After(l.now) || len(d.waiting) == 0
	if !due || d.Policy.Overlap != OverlapCancel {
		l.release(d, &out)
	}
	if due {
		l.occur(d, table, l.now, &out)
	}
	out.next = nil
	if out.nominal != nil {
		run := l.starts(d, *out.nominal)
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

// compute gives a row that needs computing its next time: the first after it was made or changed,
// which is its next_run_at. It reports true if that has come already.
func (l *snapshot) compute(d *dueSchedule, table *calendar.Schedule, out *decision) bool {
	if len(d.former) == 0 {
		if n := d.nominal; n != nil && !n.After(l.now) { // something else was changed than its times
			run := l.starts(d, *n)
			out.next = &run
			return !run.After(l.now)
		}
		if !d.run.After(l.now) {
			out.answered = later(out.answered, d.run)
		}
	}
	out.nominal, out.next = nil, nil
	next := table.Next(out.answered)
	if next.IsZero() {
		return false
	}
	run := l.starts(d, next)
	out.nominal, out.next = &next, &run
	d.nominal, d.answered = out.nominal, &out.answered
	return !run.After(l.now)
}

// pollWaiting is how often a schedule with waiting occurrences looks whether the
// run before has ended.
const pollWaiting = time.Second

// stopped is a schedule in error.
func (d *dueSchedule) stopped(why string) decision {
	out := decision{nominal: d.nominal, last: d.last, waiting: d.waiting, answered: d.run, err: fit.Clip(why, 500), kept: true}
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
func (g *group) before(d *dueSchedule, end time.Time, now time.Time, outcome OccurrenceOutcome, note string) []occurrenceRow {
	if g.count > g.others && (end.IsZero() || g.first.Before(end)) {
		a := single(d.id, g.first, now, outcome, note)
		upto := g.upto
		if !end.IsZero() {
			upto = end.Add(-time.Second)
		}
		if n := g.table.Count(g.first, upto); n > 0 {
			a.LastAt, a.Count = g.table.Last(g.first, upto, 1)[0], n+1
		}
		return []occurrenceRow{a}
	}
	upto := g.upto
	if !end.IsZero() {
		upto = end.Add(-time.Second)
	}
	if n := g.table.Count(g.first, upto); n > 0 {
		a := single(d.id, g.table.Next(g.first), now, outcome, note)
		a.LastAt, a.Count = g.table.Last(g.first, upto, 1)[0], n
		return []occurrenceRow{a}
	}
	return nil
}

// occur answers everything that has come due up to a time, and computes what comes next.
func (l *snapshot) occur(d *dueSchedule, table *calendar.Schedule, upto time.Time, out *decision) {
	g := group{table: table, first: d.run, upto: upto.Add(-d.mostDelay())}
	if d.nominal != nil && !l.starts(d, *d.nominal).After(l.now) {
		g.first = *d.nominal
	} // else somebody has moved the row
	if g.upto.Before(g.first) { // its place in the spread may be nearer than others'
		g.upto = g.first
	}
	next := table.Next(g.first)
	if !next.IsZero() && !next.After(g.upto) {
		g.others = table.Count(g.first, g.upto)
		next = table.Next(g.upto)
	}
	g.count = g.others + 1
	barred := (len(d.Policy.Calendars) > 0 || len(d.Policy.Windows) > 0) && d.nominal != nil && g.first.Equal(*d.nominal) && !table.Next(g.first.Add(-time.Second)).Equal(g.first)
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
	outcome, why := d.refusal()
	switch {
	case outcome != "":
		out.answers = append(out.answers, g.before(d, time.Time{}, l.now, outcome, why)...)
		return
	case l.failing[d.id]:
		out.pause = fmt.Sprintf("paused by itself: its last %s failed", jobs.CountVerb(d.Policy.PauseAfter, "job", "has", "have"))
		out.answers = append(out.answers, g.before(d, time.Time{}, l.now, SkippedPaused, out.pause)...)
		return
	}
	if why = l.whyClosed(d, g.last(1)[0]); why != "" {
		out.answers = append(out.answers, g.before(d, time.Time{}, l.now, SkippedExcluded, why)...)
		return
	}
	fire, rest := l.catchUp(d, &g)
	out.answers = append(out.answers, rest...)
	l.overlap(d, ofClock(fire), out)
}

// enqueue makes a job of an occurrence, or stops the schedule.
func (l *snapshot) enqueue(d *dueSchedule, w waiting, out *decision) {
	if out.err != "" { // nothing more of this one
		a := single(d.id, w.At, l.now, FailedToEnqueue, out.err)
		a.Origin = w.Origin
		out.answers = append(out.answers, a)
		return
	}
	it := l.item(d, w)
	if err := l.fits(&it); err != nil {
		out.err = fit.Clip(err.Error(), 500)
		l.enqueue(d, w, out)
		return
	}
	effective := *it.Meta.Effective
	a := single(d.id, w.At, l.now, Fired, "")
	a.Origin, a.JobUID, a.EffectiveAt = w.Origin, it.Meta.UID, &effective
	out.answers, out.items = append(out.answers, a), append(out.items, it)
	out.last, out.lastRun = it.Meta.UID, &effective
}

// fits refuses a job that could not be made, or that no program would take.
func (l *snapshot) fits(it *queue.Draft) error {
	if err := jobs.CheckKind(it.Kind); err != nil {
		return err
	}
	if err := it.Check(&jobs.EnqueueOpts{}, l.now); err != nil {
		return err
	}
	return l.check(it.Kind, it.Args)
}

// endPause lets a schedule go on whose pause has an end.
func (l *snapshot) endPause(d *dueSchedule, table *calendar.Schedule, out *decision) {
	if d.pausedUntil == nil || d.pausedUntil.After(l.now) {
		out.next, out.kept = d.pausedUntil, true
		return
	}
	until := *d.pausedUntil
	for i := range d.former {
		f := &d.former[i]
		if old, err := f.Spec.Timetable(l.calendars); err == nil && f.At.After(out.answered) && !f.At.After(until) {
			out.answers = append(out.answers, answersOf(old, d.id, out.answered, f.At, l.now, SkippedPaused, d.note)...)
			out.answered = f.At
		}
	}
	if until.After(out.answered) {
		out.answers = append(out.answers, answersOf(table, d.id, out.answered, until, l.now, SkippedPaused, d.note)...)
		out.answered = until
	}
	out.unpause, out.nominal, out.next = true, nil, nil
	if next := table.Next(out.answered); !next.IsZero() {
		run := l.starts(d, next)
		out.nominal, out.next = &next, &run
	}
}

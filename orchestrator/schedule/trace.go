package schedule

import (
	"context"
	"time"
)

// trace begins a trace for each job of a schedule that fires.
func (st *Store) trace(ctx context.Context, d *dueSchedule, decided *decision) {
	for i := range decided.items {
		it := &decided.items[i]
		parent, end := st.tracer.Fire(ctx, it.Kind, d.name, it.Meta.UID, *it.Meta.Nominal)
		it.Meta.TraceParent = parent
		d.traced = append(d.traced, end)
	}
}

// endTraces ends the spans of what has fired, with the error that kept that from being
// committed. A later call does nothing.
func (d *dueSchedule) endTraces(err error) {
	for _, end := range d.traced {
		end(err)
	}
	d.traced = nil
}

// measure records the answers of a batch that is committed.
func (s *Scheduler) measure(ctx context.Context, now time.Time, batch []dueSchedule, decisions []decision) {
	answers := map[string]int{}
	for i := range decisions {
		if batch[i].aside {
			continue
		}
		for _, a := range decisions[i].answers {
			answers[string(a.Outcome)] += a.Count
			if a.Outcome == Fired && a.EffectiveAt != nil {
				s.store.meter.Late(ctx, now.Sub(*a.EffectiveAt))
			}
		}
	}
	for answer, n := range answers {
		s.store.meter.Answered(ctx, answer, n)
	}
}

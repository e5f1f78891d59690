package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// former are the times that a schedule had until somebody changed them, in its row
// because some of them had come and nothing had answered them (trigger former_times).
type former struct {
	At      time.Time  `json:"at"`      // of the change
	Nominal *time.Time `json:"nominal"` // the first that was not answered
	Fresh   bool       `json:"fresh"`   // Nominal is of times before these
	Spec    Spec       `json:"-"`       // only what says when it names a time
}

// UnmarshalJSON reads the times, which stand beside the policies.
func (f *former) UnmarshalJSON(text []byte) error {
	type plain former
	return errors.Join(json.Unmarshal(text, (*plain)(f)), json.Unmarshal(text, &f.Spec), json.Unmarshal(text, &f.Spec.Policy))
}

// timesWith are the former times, with all else of a spec.
func (f *former) timesWith(s Spec) Spec {
	for i := range specFields {
		if specFields[i].times {
			s.take(&specFields[i], f.Spec)
		}
	}
	return s
}

// answerFormer answers for the times that a schedule had, each up to its change. The
// present policies say what is made up for, and what happens while the run before has
// not ended: an operator may have changed them because of what was missed.
func (l *snapshot) answerFormer(d *dueSchedule, out *decision) {
	for i := range d.former {
		f, old := &d.former[i], *d
		table, err := f.Spec.Timetable(l.calendars)
		if err != nil || !f.At.After(out.answered) { // nobody can say any more what those were, or a pause has answered them
			continue
		}
		old.Spec, old.table, old.answered = f.timesWith(d.Spec), table, &out.answered
		old.last, old.waiting = out.last, out.waiting
		if old.nominal = f.Nominal; f.Fresh || old.nominal == nil || !old.nominal.After(out.answered) {
			next := table.Next(out.answered)
			old.nominal = &next
		}
		l.answerUpto(&old, f.At, l.namedStill(d, i, *old.nominal), out)
	}
	d.last, d.waiting, d.answered = out.last, out.waiting, &out.answered
}

// answerUpto answers for the times of old up to a change. stays says that the next of
// them is one of the new times too.
func (l *snapshot) answerUpto(old *dueSchedule, change time.Time, stays bool, out *decision) {
	n := *old.nominal
	switch {
	case n.IsZero() || n.After(change):
		out.answers = append(out.answers, skipsOf(old.table, old.id, out.answered, change, l.now)...)
	case !l.starts(old, n).After(change):
		old.run = n
		l.occur(old, old.table, change, out)
	case stays: // it waits for its place in the spread
		out.answered = later(out.answered, n.Add(-time.Second))
		return
	default:
		out.answers = append(out.answers, single(old.id, n, l.now, Superseded, "the schedule was changed before its place in the spread came"))
	}
	out.answered = later(out.answered, change)
}

// namedStill tells whether a time is one of those that came after the former ones.
func (l *snapshot) namedStill(d *dueSchedule, i int, at time.Time) bool {
	var table *calendar.Schedule
	var err error
	if i+1 < len(d.former) {
		table, err = d.former[i+1].Spec.Timetable(l.calendars)
	} else {
		table, err = d.Timetable(l.calendars)
	}
	return err == nil && table.Next(at.Add(-time.Second)).Equal(at)
}

// bringUp does for one schedule, whose row the caller has locked, what the scheduler would
// do next: it fires and answers what has come. A schedule is changed from there on.
func (st *Store) bringUp(ctx context.Context, tx pgx.Tx, id string, now time.Time) error {
	var d dueSchedule
	var run *time.Time
	if err := tx.QueryRow(ctx, claimOneSQL, id).Scan(d.into(&run)...); err != nil {
		return fmt.Errorf("reading schedule %s: %w", id, err)
	}
	if run == nil || run.After(now) || d.paused {
		return nil
	}
	d.run = *run
	batch := []dueSchedule{d}
	l, err := st.look(ctx, tx, now, batch)
	if err != nil {
		return err
	}
	decisions := []decision{l.decide(&batch[0])}
	if err := l.askAgain(ctx, tx, batch, decisions); err != nil {
		return err
	}
	st.trace(ctx, &batch[0], &decisions[0])
	err = st.carryOut(ctx, tx, now, batch, decisions, nil)
	batch[0].endTraces(err)
	return err
}

const selectUnansweredSQL = `SELECT answered_at, former FROM headgate.schedules WHERE id = $1`

const forgetFormerSQL = `UPDATE headgate.schedules SET former = '[]', fresh = false, answered_at = greatest(answered_at, $2) WHERE id = $1`

// answerAll gives one outcome to all that a schedule has named up to now and that has no
// answer, also by the times that it had before. The caller has locked its row. An empty
// outcome answers only what the calendar itself has left out.
func (st *Store) answerAll(ctx context.Context, tx pgx.Tx, s *Schedule, now time.Time, outcome OccurrenceOutcome, note string) error {
	var since *time.Time
	var before []former
	var raw []byte
	if err := tx.QueryRow(ctx, selectUnansweredSQL, s.ID).Scan(&since, &raw); err != nil {
		return fmt.Errorf("reading schedule %s: %w", s.Name, err)
	}
	if json.Unmarshal(raw, &before) != nil {
		before = nil // somebody has written them: nobody can say which times those were
	}
	if since == nil { // nothing of it was ever answered
		return nil
	}
	var answers []occurrenceRow
	add := func(spec *Spec, upto time.Time) {
		if table, err := spec.timetableTx(ctx, tx); err == nil && upto.After(*since) { // else nobody can say which times those were
			if outcome == "" {
				answers = append(answers, skipsOf(table, s.ID, *since, upto, now)...)
			} else {
				answers = append(answers, answersOf(table, s.ID, *since, upto, now, outcome, note)...)
			}
			since = &upto
		}
	}
	for i := range before {
		add(&before[i].Spec, before[i].At)
	}
	add(&s.Spec, now)
	if _, _, err := insertAnswers(ctx, tx, answers); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, forgetFormerSQL, s.ID, now)
	if err != nil {
		return fmt.Errorf("answering for schedule %s: %w", s.Name, err)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

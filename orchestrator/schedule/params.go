package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// Params is what Create needs.
type Params struct {
	Tenant   string    // slug, UUID or org_id; "" means the context's
	Database string    // instead of Tenant, for a kind of scope database
	Name     string    // [a-z][a-z0-9-]{0,62}
	Args     jobs.Args // the kind and its arguments
	Spec               // all else; Kind and Args are those of Args
	Actor    string    // who does it, for the record of changes
}

var scheduleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func checkScheduleName(name string) error {
	if !scheduleName.MatchString(name) {
		return jobs.Inputf("schedule name", name, "give 1 to 63 lower-case letters, digits or dashes, a letter first")
	}
	return nil
}

// complete puts the defaults in and refuses what does not fit.
func (p *Policy) complete() error {
	p.Overlap, p.CatchUp = cmp.Or(p.Overlap, OverlapSkip), cmp.Or(p.CatchUp, CatchUpLatest)
	p.BufferMax, p.CatchUpMax = cmp.Or(p.BufferMax, 100), cmp.Or(p.CatchUpMax, 10)
	for _, at := range []**time.Time{&p.Start, &p.End} { // as the table keeps them
		if *at != nil {
			kept := (*at).UTC().Truncate(time.Microsecond)
			*at = &kept
		}
	}
	switch p.Overlap {
	case OverlapSkip, OverlapBufferOne, OverlapBufferAll, OverlapCancel, OverlapAllow:
	default:
		return jobs.Inputf("overlap", string(p.Overlap), "give skip, buffer_one, buffer_all, cancel or allow")
	}
	switch p.CatchUp {
	case CatchUpNone, CatchUpLatest, CatchUpAll:
	default:
		return jobs.Inputf("catch-up", string(p.CatchUp), "give none, latest or all")
	}
	p.Calendars, p.Windows = list(p.Calendars), list(p.Windows)
	const year = 366 * 24 * time.Hour
	switch {
	case p.Start != nil && p.Start.IsZero():
		return jobs.Inputf("start", "", "the zero time is given, which nobody means: give a time from 1970 on, or none")
	case p.End != nil && p.End.IsZero():
		return jobs.Inputf("end", "", "the zero time is given, which nobody means: give a time from 1970 on, or none")
	case p.BufferMax < 1 || p.BufferMax > 1000:
		return jobs.Inputf("buffer max", strconv.Itoa(p.BufferMax), "give 1 to 1000")
	case p.CatchUpMax < 1 || p.CatchUpMax > 1000:
		return jobs.Inputf("catch-up max", strconv.Itoa(p.CatchUpMax), "give 1 to 1000")
	case p.CatchUpWindow < 0 || p.CatchUpWindow > year:
		return jobs.Inputf("catch-up window", p.CatchUpWindow.String(), "give 1s to 366 days, or none for no bound")
	case p.CatchUpWindow%time.Second != 0:
		return jobs.Inputf("catch-up window", p.CatchUpWindow.String(), "give whole seconds")
	case p.PauseAfter < 0 || p.PauseAfter > 1000:
		return jobs.Inputf("pause after", strconv.Itoa(p.PauseAfter), "give 1 to 1000 failures in a row, or none for never")
	}
	return jobs.AsInputError("spread", calendar.CheckSpread(p.Spread))
}

// Timetable is the calendar of a spec: its words, its warnings and its times; calendars are the exclusion calendars that it may
// name.
func (s *Spec) Timetable(calendars map[string]calendar.Days) (*calendar.Schedule, error) {
	p := &s.Policy
	spec := calendar.Spec{Cron: s.Cron, Zone: s.Zone, Gap: p.Gap, Repeat: p.Repeat, Max: p.Max}
	if p.Start != nil {
		spec.Start = *p.Start
	}
	if p.End != nil {
		spec.End = *p.End
	}
	for _, text := range p.Windows {
		w, err := calendar.ParseWindow(text)
		if err != nil {
			return nil, jobs.AsInputError("windows", err)
		}
		spec.Windows = append(spec.Windows, w)
	}
	for _, name := range p.Calendars {
		days, ok := calendars[name]
		if !ok {
			return nil, jobs.AsInputError("calendars", fmt.Errorf("unknown calendar %q; `headgate schedule calendar list` shows them", fit.Cut(name)))
		}
		spec.Exclude = append(spec.Exclude, days)
	}
	table, err := calendar.Cached(spec)
	if refused := (*calendar.FieldError)(nil); errors.As(err, &refused) {
		err = jobs.AsInputError(refused.Field, err)
	}
	return table, err
}

// timetableTx is Timetable with the calendars from the database.
func (s *Spec) timetableTx(ctx context.Context, tx pgx.Tx) (*calendar.Schedule, error) {
	var calendars map[string]calendar.Days
	if names := s.Policy.Calendars; len(names) > 0 {
		var err error
		if calendars, err = readCalendars(ctx, tx, names); err != nil {
			return nil, err
		}
	}
	return s.Timetable(calendars)
}

// errNeverAgain: a schedule that has no time left.
var errNeverAgain = jobs.AsInputError("end", errors.New("it has no time left: its end, or the last of its occurrences, is past"))

// readOneSQL is claimOneSQL without a lock.
const readOneSQL = dueColumns + `WHERE s.id = $1`

// placed is when an occurrence starts by its place in the spread: inside the schedule's
// windows, and before a blackout begins. The schedule's row must be there; what is read of
// it is whose it is.
func (st *Store) placed(ctx context.Context, tx pgx.Tx, s *Schedule, table *calendar.Schedule, at time.Time) (time.Time, error) {
	if s.Policy.Spread == 0 {
		return at, nil
	}
	run, _, err := st.foresee(ctx, tx, s, table, at)
	return run, err
}

// foresee is placed, and says which blackout or maintenance window would keep the
// occurrence from starting then, as they are now.
func (st *Store) foresee(ctx context.Context, tx pgx.Tx, s *Schedule, table *calendar.Schedule, at time.Time) (starts time.Time, closed string, err error) {
	var d dueSchedule
	var run *time.Time
	if err := tx.QueryRow(ctx, readOneSQL, s.ID).Scan(d.into(&run)...); err != nil {
		return at, "", fmt.Errorf("reading schedule %s: %w", s.Name, err)
	}
	d.Spec, d.place, d.table = s.Spec, s.place, table
	l := &snapshot{now: at}
	if l.windows, err = readWindows(ctx, tx); err != nil {
		return at, "", err
	}
	if len(l.windows) > 0 && d.Policy.Maintenance {
		if l.durations, err = readDurations(ctx, tx); err != nil {
			return at, "", err
		}
	}
	if _, closed = d.refusal(); closed == "" {
		closed = l.whyClosed(&d, at)
	}
	return l.starts(&d, at), closed, nil
}

// Timetable is the calendar of a schedule: its words, its warnings and its times.
func (st *Store) Timetable(ctx context.Context, s Schedule) (table *calendar.Schedule, err error) {
	err = central.Read(ctx, st.pool, func(tx pgx.Tx) error {
		table, err = s.timetableTx(ctx, tx)
		return err
	})
	return table, err
}

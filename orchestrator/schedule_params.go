package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// ScheduleParams is what CreateSchedule needs.
type ScheduleParams struct {
	Tenant   string    // slug, UUID or org_id; "" means the context's
	Database string    // instead of Tenant, for a kind of scope database
	Name     string    // [a-z][a-z0-9-]{0,62}
	Args     jobs.Args // the kind and its arguments
	Cron     string    // five fields, @daily and the like, or @every 10m
	Zone     string    // IANA name; "" means the tenant's own, UTC for a database
	Policy   SchedulePolicy
	Opts     *EnqueueOpts // RunAt and Timeout do not apply
	Actor    string       // who does it, for the record of changes
}

var scheduleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func checkScheduleName(name string) error {
	if !scheduleName.MatchString(name) {
		return fmt.Errorf("schedule name %q: give 1 to 63 lower-case letters, digits or dashes, a letter first", cut(name))
	}
	return nil
}

// settle puts the defaults in and refuses what does not fit.
func (p *SchedulePolicy) settle() error {
	p.Overlap, p.CatchUp = cmp.Or(p.Overlap, OverlapSkip), cmp.Or(p.CatchUp, CatchUpLatest)
	p.BufferMax, p.CatchUpMax = cmp.Or(p.BufferMax, 100), cmp.Or(p.CatchUpMax, 10)
	switch p.Overlap {
	case OverlapSkip, OverlapBufferOne, OverlapBufferAll, OverlapCancel, OverlapAllow:
	default:
		return fmt.Errorf("overlap %q: give skip, buffer_one, buffer_all, cancel or allow", cut(string(p.Overlap)))
	}
	switch p.CatchUp {
	case CatchUpNone, CatchUpLatest, CatchUpAll:
	default:
		return fmt.Errorf("catch-up %q: give none, latest or all", cut(string(p.CatchUp)))
	}
	const year = 366 * 24 * 3600
	switch {
	case p.BufferMax < 1 || p.BufferMax > 1000:
		return fmt.Errorf("buffer max is %d: give 1 to 1000", p.BufferMax)
	case p.CatchUpMax < 1 || p.CatchUpMax > 1000:
		return fmt.Errorf("catch-up max is %d: give 1 to 1000", p.CatchUpMax)
	case p.CatchUpWindow < 0 || p.CatchUpWindow > year:
		return fmt.Errorf("catch-up window is %s: give 1s to 366 days, or none for no bound", time.Duration(p.CatchUpWindow)*time.Second)
	case p.PauseAfter < 0 || p.PauseAfter > 1000:
		return fmt.Errorf("pause after is %d: give 1 to 1000 failures in a row, or none for never", p.PauseAfter)
	}
	return calendar.CheckSpread(time.Duration(p.Spread) * time.Second)
}

// timetable is the calendar of a schedule with its policies; calendars are the
// exclusion calendars that it may name.
func timetable(cron, zone string, p *SchedulePolicy, calendars map[string]calendar.Days) (*calendar.Schedule, error) {
	spec := calendar.Spec{Cron: cron, Zone: zone, Gap: p.Gap, Repeat: p.Repeat, Max: p.Max}
	if p.Start != nil {
		spec.Start = *p.Start
	}
	if p.End != nil {
		spec.End = *p.End
	}
	for _, text := range p.Windows {
		w, err := calendar.ParseWindow(text)
		if err != nil {
			return nil, err
		}
		spec.Windows = append(spec.Windows, w)
	}
	for _, name := range p.Calendars {
		days, ok := calendars[name]
		if !ok {
			return nil, fmt.Errorf("unknown calendar %q; `headgate schedule calendar list` shows them", cut(name))
		}
		spec.Exclude = append(spec.Exclude, days)
	}
	return calendar.Cached(spec)
}

// timetableTx is timetable with the calendars from the database.
func timetableTx(ctx context.Context, tx pgx.Tx, cron, zone string, p *SchedulePolicy) (*calendar.Schedule, error) {
	var calendars map[string]calendar.Days
	if len(p.Calendars) > 0 {
		var err error
		if calendars, err = readCalendars(ctx, tx, p.Calendars); err != nil {
			return nil, err
		}
	}
	return timetable(cron, zone, p, calendars)
}

// ErrNeverAgain: a schedule that has no time left.
var errNeverAgain = errors.New("it has no time left: its end, or the last of its occurrences, is past")

// firstTimes are the first occurrence after now and when it starts.
func firstTimes(s *calendar.Schedule, now time.Time, delay time.Duration) (nominal, run time.Time, err error) {
	nominal = s.Next(now)
	if nominal.IsZero() {
		return nominal, nominal, errNeverAgain
	}
	return nominal, nominal.Add(delay), nil
}

// Timetable is the calendar of a schedule: its words, its warnings and its times.
func (c *Client) Timetable(ctx context.Context, s Schedule) (table *calendar.Schedule, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		table, err = timetableTx(ctx, tx, s.Cron, s.Zone, &s.Policy)
		return err
	})
	return table, err
}

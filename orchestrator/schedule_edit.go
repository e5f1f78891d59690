package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// ScheduleEdit is what EditSchedule changes. What is nil or zero stays.
type ScheduleEdit struct {
	Args   jobs.Args             // of the schedule's kind or of another
	Cron   string                //
	Zone   string                //
	Policy func(*SchedulePolicy) // changes what it wants to

	// Version is the one that the edit is based on; if the schedule has another by
	// now, nothing is changed. 0 means any.
	Version int

	Actor string
	Note  string // why, for the record of changes
}

const updateSchedule = `
UPDATE headgate.schedules SET kind = $2, args = $3, cron = $4, zone = $5,
    gap = $6, repeat = $7, start_at = $8, end_at = $9, max_occurrences = $10, calendars = $11, windows = $12, spread = $13,
    overlap = $14, buffer_max = $15, catch_up = $16, catch_up_max = $17, catch_up_window = $18, pause_after = $19,
    next_nominal_at = $20, next_run_at = $21, queue = $22, maintenance = $23, error = '', version = version + 1
WHERE id = $1`

// EditSchedule changes a schedule and raises its version. A firing is either
// before the edit, with what the schedule was, or after it, with what it has become.
// If the times change, it goes on from the first new one after now; an occurrence
// whose time has come and that waits for its place in the spread stays. A
// schedule in error is set going again. The error matches ErrUnknownSchedule, or
// ErrScheduleConflict if the version is another.
func (c *Client) EditSchedule(ctx context.Context, of ScheduleOf, edit ScheduleEdit) (after Schedule, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		after, err = c.EditScheduleTx(ctx, tx, of, edit)
		return err
	})
	return after, err
}

// EditScheduleTx is EditSchedule inside the caller's transaction.
func (c *Client) EditScheduleTx(ctx context.Context, tx pgx.Tx, of ScheduleOf, edit ScheduleEdit) (Schedule, error) {
	before, err := c.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return Schedule{}, err
	}
	if err := fromFleet(&before, of); err != nil {
		return Schedule{}, err
	}
	if edit.Version != 0 && edit.Version != before.Version {
		return Schedule{}, fmt.Errorf("%w: schedule %s of %s has version %d, not %d: look at it again before you change it", ErrScheduleConflict, of.Name, of.owner(), before.Version, edit.Version)
	}
	s := before
	s.Cron, s.Zone = cmp.Or(edit.Cron, s.Cron), cmp.Or(edit.Zone, s.Zone)
	if edit.Policy != nil {
		edit.Policy(&s.Policy)
	}
	if err := s.Policy.settle(); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	if edit.Args != nil {
		it, err := newItem(ctx, EnqueueParams{Tenant: of.Tenant, Database: of.Database, Args: edit.Args})
		if err != nil {
			return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
		}
		if it.kind != s.Kind {
			s.Queue = it.queue
		}
		s.Kind, s.Args = it.kind, it.args
	}
	if err := c.moveOn(ctx, tx, &before, &s); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	p := &s.Policy
	_, err = tx.Exec(ctx, updateSchedule, s.ID, s.Kind, s.Args, s.Cron, s.Zone,
		p.Gap, p.Repeat, p.Start, p.End, p.Max, list(p.Calendars), list(p.Windows), p.Spread,
		p.Overlap, p.BufferMax, p.CatchUp, p.CatchUpMax, p.CatchUpWindow, p.PauseAfter, s.Nominal, s.NextRunAt, s.Queue, p.Maintenance)
	if err != nil {
		return Schedule{}, fmt.Errorf("changing schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	s.Version, s.Error = s.Version+1, ""
	s.Delay = int(s.delay().Seconds())
	return s, c.recordChange(ctx, tx, change{before: &before, after: &s, action: "edit", actor: edit.Actor, note: edit.Note})
}

// moveOn computes the next time of an edited schedule.
func (c *Client) moveOn(ctx context.Context, tx pgx.Tx, before, s *Schedule) error {
	if err := holdCalendars(ctx, tx, s.Policy.Calendars); err != nil {
		return err
	}
	table, err := timetableTx(ctx, tx, s.Cron, s.Zone, &s.Policy)
	if err != nil {
		return err
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return err
	}
	if s.Paused { // its end computes the next time
		s.Nominal = nil
		return nil
	}
	if due := before.Nominal; due != nil && !due.After(now) && table.Next(due.Add(-time.Second)).Equal(*due) {
		run := due.Add(s.delay())
		s.NextRunAt = &run
		return nil
	}
	nominal, run, err := firstTimes(table, c.unanswered(ctx, tx, s.ID, now), s.delay())
	if err != nil {
		return err
	}
	nominal, run = nominal.UTC(), run.UTC()
	s.Nominal, s.NextRunAt = &nominal, &run
	return nil
}

const selectAnswered = `SELECT greatest(answered_at, $2::timestamptz) FROM headgate.schedules WHERE id = $1`

// unanswered returns now, or how far the answers go if that is later: the clock
// may have been set back, and nothing is answered twice.
func (c *Client) unanswered(ctx context.Context, tx pgx.Tx, id string, now time.Time) time.Time {
	at := now
	if err := tx.QueryRow(ctx, selectAnswered, id, now).Scan(&at); err != nil {
		return now // the caller's next statement says what is wrong
	}
	return at
}

const deleteSchedule = `DELETE FROM headgate.schedules WHERE id = $1`

// DeleteSchedule removes a schedule. Jobs that it has enqueued go on; the answers
// and the record of changes stay until they are old. If a selector's schedule has the
// same name, the tenant has that one within seconds.
func (c *Client) DeleteSchedule(ctx context.Context, of ScheduleOf, actor string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.DeleteScheduleTx(ctx, tx, of, actor) })
}

// DeleteScheduleTx is DeleteSchedule inside the caller's transaction.
func (c *Client) DeleteScheduleTx(ctx context.Context, tx pgx.Tx, of ScheduleOf, actor string) error {
	s, err := c.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return err
	}
	if err := fromFleet(&s, of); err != nil {
		return err
	}
	if err := c.recordChange(ctx, tx, change{before: &s, action: "delete", actor: actor}); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteSelectorChange, s.ID); err != nil {
		return fmt.Errorf("deleting schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	if _, err := tx.Exec(ctx, deleteSchedule, s.ID); err != nil {
		return fmt.Errorf("deleting schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	return nil
}

// ScheduleChange is one entry in the record of a schedule's changes.
type ScheduleChange struct {
	At      time.Time `json:"at"`
	Version int       `json:"version"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Note    string    `json:"note,omitempty"`
}

const selectChanges = `
SELECT at, version, actor, action, note FROM headgate.schedule_changes WHERE schedule_id = $1 ORDER BY id DESC LIMIT $2`

// ScheduleChanges returns the last changes of a schedule, the latest first. The
// rows of headgate.schedule_changes also have what it was before and after.
func (c *Client) ScheduleChanges(ctx context.Context, id string, limit int) ([]ScheduleChange, error) {
	rows, err := c.pool.Query(ctx, selectChanges, id, min(cmp.Or(limit, 20), 1000))
	if err != nil {
		return nil, fmt.Errorf("reading the changes of a schedule: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (ch ScheduleChange, err error) {
		err = row.Scan(&ch.At, &ch.Version, &ch.Actor, &ch.Action, &ch.Note)
		ch.At = ch.At.UTC()
		return ch, err
	})
}

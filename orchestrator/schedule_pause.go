package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/internal/central"
)

// SchedulePauseOpts are the choices of a pause. nil means the zero value.
type SchedulePauseOpts struct {
	Note  string    // why
	Until time.Time // it resumes by itself then; zero means never
	Actor string
}

const pauseSchedule = `
UPDATE headgate.schedules
SET paused = true, paused_note = $2, paused_by = $3, paused_at = coalesce(paused_at, $4), paused_until = $5, next_run_at = $5
WHERE id = $1`

// PauseSchedule stops a schedule from firing until it is resumed; the note says
// why. Pausing twice keeps the newer note and end. Jobs enqueued before go on.
func (c *Client) PauseSchedule(ctx context.Context, of ScheduleOf, opts *SchedulePauseOpts) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.PauseScheduleTx(ctx, tx, of, opts) })
}

// PauseScheduleTx is PauseSchedule inside the caller's transaction.
func (c *Client) PauseScheduleTx(ctx context.Context, tx pgx.Tx, of ScheduleOf, opts *SchedulePauseOpts) error {
	if opts == nil {
		opts = &SchedulePauseOpts{}
	}
	s, err := c.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return err
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return err
	}
	var until *time.Time
	if !opts.Until.IsZero() {
		if !opts.Until.After(now) {
			return fmt.Errorf("pausing schedule %s: until %s is past: give a time to come, or none", of.Name, opts.Until.UTC().Format(time.RFC3339))
		}
		until = &opts.Until
	}
	after := s
	after.Paused, after.PausedNote, after.PausedBy, after.PausedUntil, after.NextRunAt = true, clip(opts.Note, 500), clip(opts.Actor, 200), until, until
	if _, err := tx.Exec(ctx, pauseSchedule, s.ID, after.PausedNote, after.PausedBy, now, until); err != nil {
		return fmt.Errorf("pausing schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	return c.recordChange(ctx, tx, change{before: &s, after: &after, action: "pause", actor: opts.Actor, note: opts.Note})
}

const resumeSchedule = `
UPDATE headgate.schedules
SET paused = false, paused_note = '', paused_by = '', paused_at = NULL, paused_until = NULL, resumed_at = $4, error = '',
    next_nominal_at = $2, next_run_at = $3, answered_at = greatest(answered_at, $4)
WHERE id = $1`

const selectPause = `SELECT answered_at FROM headgate.schedules WHERE id = $1`

// ResumeSchedule lets a paused schedule, or one in error, fire again, from the
// first matching time after now on. What it missed is answered as skipped_paused, or
// failed_to_enqueue, and is not made up for: that is what backfill is for.
func (c *Client) ResumeSchedule(ctx context.Context, of ScheduleOf, actor string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.ResumeScheduleTx(ctx, tx, of, actor) })
}

// ResumeScheduleTx is ResumeSchedule inside the caller's transaction.
func (c *Client) ResumeScheduleTx(ctx context.Context, tx pgx.Tx, of ScheduleOf, actor string) error {
	s, err := c.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return err
	}
	table, err := timetableTx(ctx, tx, s.Cron, s.Zone, &s.Policy)
	if err != nil {
		return fmt.Errorf("resuming schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return err
	}
	after := s
	after.Paused, after.PausedNote, after.PausedBy, after.PausedUntil, after.Error = false, "", "", nil, ""
	nominal, run, err := firstTimes(table, c.unanswered(ctx, tx, s.ID, now), s.delay())
	switch {
	case errors.Is(err, errNeverAgain):
		after.Nominal, after.NextRunAt = nil, nil
	default:
		after.Nominal, after.NextRunAt = &nominal, &run
	}
	if s.Paused || s.Error != "" {
		outcome, note := SkippedPaused, s.PausedNote
		if !s.Paused {
			outcome, note = FailedToEnqueue, s.Error
		}
		var answered time.Time
		if err := tx.QueryRow(ctx, selectPause, s.ID).Scan(&answered); err != nil {
			return fmt.Errorf("resuming schedule %s: %w", of.Name, err)
		}
		missed := answersOf(table, s.ID, answered, now, now, outcome, note)
		if _, err := insertAnswers(ctx, tx, missed); err != nil {
			return err
		}
	} else if s.NextRunAt != nil {
		after.Nominal, after.NextRunAt = s.Nominal, s.NextRunAt // it was going all the time
		return nil
	}
	if _, err := tx.Exec(ctx, resumeSchedule, s.ID, after.Nominal, after.NextRunAt, now); err != nil {
		return fmt.Errorf("resuming schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	return c.recordChange(ctx, tx, change{before: &s, after: &after, action: "resume", actor: actor})
}

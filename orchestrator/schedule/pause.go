package schedule

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// PauseOpts are the choices of a pause. nil means the zero value.
type PauseOpts struct {
	Note  string    // why, up to 500 characters
	Until time.Time // it resumes by itself then; zero means never
	Actor string    // up to 200 characters
}

// maxNote and maxActor are how many characters the note and the author of a pause or of a
// window may have.
const (
	maxNote  = 500
	maxActor = 200
)

const pauseSchedule = `
UPDATE headgate.schedules
SET paused = true, paused_note = $2, paused_by = $3, paused_at = coalesce(paused_at, $4), paused_until = $5, next_run_at = $5
WHERE id = $1`

// Pause stops a schedule from firing until it is resumed; the note says
// why. Pausing twice keeps the newer note and end. Jobs enqueued before go on.
func (st *Store) Pause(ctx context.Context, of Key, opts *PauseOpts) error {
	return central.Write(ctx, st.pool, func(tx pgx.Tx) error { return st.PauseTx(ctx, tx, of, opts) })
}

// PauseTx is Pause inside the caller's transaction.
func (st *Store) PauseTx(ctx context.Context, tx pgx.Tx, of Key, opts *PauseOpts) error {
	if opts == nil {
		opts = &PauseOpts{}
	}
	if err := cmp.Or(jobs.CheckText("note", opts.Note, maxNote), jobs.CheckText("actor", opts.Actor, maxActor)); err != nil {
		return fmt.Errorf("pausing schedule %s: %w", fit.Cut(of.Name), err)
	}
	s, err := st.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return err
	}
	now, err := central.Clock(ctx, tx)
	if err != nil {
		return err
	}
	var until *time.Time
	if !opts.Until.IsZero() {
		if !opts.Until.After(now) {
			return fmt.Errorf("pausing schedule %s: %w", of.Name, jobs.Inputf("until", opts.Until.UTC().Format(time.RFC3339), "it is past: give a time to come, or none"))
		}
		until = &opts.Until
	}
	if err := access.Say(ctx, tx, opts.Actor, opts.Note); err != nil {
		return fmt.Errorf("pausing schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	after := s
	if !s.Paused && s.Error == "" { // what has come and has not fired is not made up for
		if err := st.answerAll(ctx, tx, &s, now, SkippedPaused, opts.Note); err != nil {
			return err
		}
	}
	after.Paused, after.PausedNote, after.PausedBy, after.PausedUntil, after.NextRunAt = true, opts.Note, opts.Actor, until, until
	if _, err := tx.Exec(ctx, pauseSchedule, s.ID, after.PausedNote, after.PausedBy, now, until); err != nil {
		return fmt.Errorf("pausing schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	return nil
}

const resumeSchedule = `
UPDATE headgate.schedules
SET paused = false, paused_note = '', paused_by = '', paused_at = NULL, paused_until = NULL, resumed_at = $4, error = '',
    next_nominal_at = $2, next_run_at = $3, answered_at = greatest(answered_at, $4)
WHERE id = $1`

// Resume lets a paused schedule, or one in error, fire again, from the
// first matching time after now on. What it missed is answered as skipped_paused, or
// failed_to_enqueue, and is not made up for: that is what backfill is for.
func (st *Store) Resume(ctx context.Context, of Key, actor string) error {
	return central.Write(ctx, st.pool, func(tx pgx.Tx) error { return st.ResumeTx(ctx, tx, of, actor) })
}

// ResumeTx is Resume inside the caller's transaction.
func (st *Store) ResumeTx(ctx context.Context, tx pgx.Tx, of Key, actor string) error {
	s, err := st.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return err
	}
	table, err := s.timetableTx(ctx, tx)
	if err != nil {
		return fmt.Errorf("resuming schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	now, err := central.Clock(ctx, tx)
	if err != nil {
		return err
	}
	if err := access.Say(ctx, tx, actor, ""); err != nil {
		return fmt.Errorf("resuming schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	after := s
	after.Paused, after.PausedNote, after.PausedBy, after.PausedUntil, after.Error = false, "", "", nil, ""
	after.Nominal, after.NextRunAt = nil, nil
	if nominal := table.Next(st.unanswered(ctx, tx, s.ID, now)).UTC(); !nominal.IsZero() {
		run, err := st.placed(ctx, tx, &s, table, nominal)
		if err != nil {
			return fmt.Errorf("resuming schedule %s of %s: %w", of.Name, of.owner(), err)
		}
		after.Nominal, after.NextRunAt = &nominal, &run
	}
	if s.Paused || s.Error != "" {
		outcome, note := SkippedPaused, s.PausedNote
		if !s.Paused {
			outcome, note = FailedToEnqueue, s.Error
		}
		if err := st.answerAll(ctx, tx, &s, now, outcome, note); err != nil {
			return err
		}
	} else if s.NextRunAt != nil {
		after.Nominal, after.NextRunAt = s.Nominal, s.NextRunAt // it was going all the time
		return nil
	}
	if _, err := tx.Exec(ctx, resumeSchedule, s.ID, after.Nominal, after.NextRunAt, now); err != nil {
		return fmt.Errorf("resuming schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	return nil
}

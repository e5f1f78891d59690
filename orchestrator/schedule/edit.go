package schedule

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Edit is a change of a schedule. What is not named stays.
type Edit struct {
	// Args, of the schedule's kind or of another, take the place of those that it has.
	// Another kind brings its own queue, unless Fields names queue. nil keeps both.
	Args jobs.Args

	// Fields are the fields of Spec that are changed, to what Spec has: by their names in
	// files, see EditableFields. A schedule whose zone is changed does not follow its
	// tenant's any more.
	Fields []string
	Spec   Spec

	// Version is the one that the edit is based on; if the schedule has another by
	// now, nothing is changed. 0 means any.
	Version int

	Actor string
	Note  string // why, for the record of changes
}

// on returns what an edit makes of a spec, and the arguments of that.
func (e *Edit) on(before Spec) (after Spec, args jobs.Args, err error) {
	after = before
	if err := after.set(e.Spec, e.Fields); err != nil {
		return after, nil, err
	}
	if e.Args == nil {
		return after, storedArgs{before.Kind, before.Args}, nil
	}
	if err := jobs.CheckArgs(e.Args); err != nil {
		return after, nil, err
	}
	if e.Args.Kind() != before.Kind && !slices.Contains(e.Fields, "queue") {
		after.Queue = "" // its own
	}
	return after, e.Args, nil
}

// storedArgs are arguments as a row has them.
type storedArgs struct {
	kind string
	args json.RawMessage
}

func (a storedArgs) Kind() string                 { return a.kind }
func (a storedArgs) MarshalJSON() ([]byte, error) { return a.args, nil }

const updateSchedule = `
UPDATE headgate.schedules
SET (` + specColumns + `) = (SELECT ` + specColumns + ` FROM jsonb_populate_record(NULL::headgate.schedules, $2)),
    next_nominal_at = $3, next_run_at = $4, follows_zone = $5, error = '', version = version + 1
WHERE id = $1`

// Edit changes a schedule and raises its version. A firing is either
// before the edit, with what the schedule was, or after it, with what it has become.
// What has come by then is fired and answered as the schedule was. If the times change,
// it goes on from the first new one after now; an occurrence whose time has come and that
// waits for its place in the spread stays if the new times name it too. A
// schedule in error is set going again. The error matches ErrUnknown, or
// ErrConflict if the version is another.
func (st *Store) Edit(ctx context.Context, of Key, edit Edit) (after Schedule, err error) {
	err = central.Write(ctx, st.pool, func(tx pgx.Tx) error {
		after, err = st.EditTx(ctx, tx, of, edit)
		return err
	})
	return after, err
}

// EditTx is Edit inside the caller's transaction.
func (st *Store) EditTx(ctx context.Context, tx pgx.Tx, of Key, edit Edit) (Schedule, error) {
	before, err := st.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return Schedule{}, err
	}
	if err := fromTemplate(&before, of); err != nil {
		return Schedule{}, err
	}
	if edit.Version != 0 && edit.Version != before.Version {
		return Schedule{}, fmt.Errorf("%w: schedule %s of %s has version %d, not %d: look at it again before you change it", ErrConflict, of.Name, of.owner(), before.Version, edit.Version)
	}
	now, err := central.Clock(ctx, tx)
	if err != nil {
		return Schedule{}, err
	}
	if before, err = st.answerBefore(ctx, tx, of, before, now); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	if err := access.Say(ctx, tx, edit.Actor, edit.Note); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	s := before
	if s.Spec, err = st.edited(ctx, of, &before, &edit); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	if err := editedBrand(ctx, tx, &before, &s); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	s.Follows = s.Follows && !slices.Contains(edit.Fields, "zone")
	if err := st.moveOn(ctx, tx, &before, &s, now); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", of.Name, err)
	}
	_, err = tx.Exec(ctx, updateSchedule, s.ID, s.row(), s.Nominal, s.NextRunAt, s.Follows)
	if err != nil {
		return Schedule{}, fmt.Errorf("changing schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	s.Version, s.Error = s.Version+1, ""
	s.DelaySeconds = int(s.delay().Seconds())
	return s, nil
}

// edited is what an edit makes of a schedule's spec, checked.
func (st *Store) edited(ctx context.Context, of Key, before *Schedule, edit *Edit) (Spec, error) {
	spec, args, err := edit.on(before.Spec)
	if err != nil {
		return spec, err
	}
	if edit.Args != nil {
		_, err = spec.draft(ctx, of.Tenant, of.Database, args)
	} else if err = cmp.Or(spec.Policy.complete(), jobs.CheckBrand(spec.Brand)); err == nil {
		err = spec.choices().Check(spec.Kind)
	}
	if err != nil {
		return spec, err
	}
	return spec, st.check(spec.Kind, spec.Args)
}

// moveOn computes the next time of an edited schedule. All that came before is answered;
// one that waits for its place in the spread stays if it is one of the new times too.
func (st *Store) moveOn(ctx context.Context, tx pgx.Tx, before, s *Schedule, now time.Time) error {
	if err := holdCalendars(ctx, tx, s.Policy.Calendars); err != nil {
		return err
	}
	table, err := s.timetableTx(ctx, tx)
	if err != nil {
		return err
	}
	if s.Paused { // its end computes the next time
		s.Nominal = nil
		return nil
	}
	var answered bool
	if err := tx.QueryRow(ctx, isAnswered, s.ID, before.Nominal).Scan(&answered); err != nil {
		return fmt.Errorf("reading the schedule: %w", err)
	}
	if due := before.Nominal; due != nil && !answered && !due.After(now) && table.Next(due.Add(-time.Second)).Equal(*due) {
		run, err := st.placed(ctx, tx, s, table, *due)
		s.NextRunAt = &run
		return err
	}
	nominal := table.Next(st.unanswered(ctx, tx, s.ID, now)).UTC()
	if nominal.IsZero() {
		return errNeverAgain
	}
	run, err := st.placed(ctx, tx, s, table, nominal)
	if err != nil {
		return err
	}
	s.Nominal, s.NextRunAt = &nominal, &run
	return nil
}

const isAnswered = `SELECT coalesce(answered_at >= $2, false) FROM headgate.schedules WHERE id = $1`

// answerBefore answers for all that has come of a schedule that is about to be changed:
// what is due is fired as it would have been, and what a pause or an error has kept from
// firing is answered so. It returns the schedule as it is then.
func (st *Store) answerBefore(ctx context.Context, tx pgx.Tx, of Key, s Schedule, now time.Time) (Schedule, error) {
	var err error
	switch {
	case s.Error != "":
		err = st.answerAll(ctx, tx, &s, now, FailedToEnqueue, s.Error)
	case s.Paused:
		err = st.answerAll(ctx, tx, &s, now, SkippedPaused, s.PausedNote)
	default:
		if err = st.bringUp(ctx, tx, s.ID, now); err == nil {
			if s, err = st.readSchedule(ctx, tx, of, lockSchedule); err == nil && (s.Nominal == nil || s.Nominal.After(now)) {
				err = st.answerAll(ctx, tx, &s, now, "", "")
			}
		}
	}
	return s, err
}

const selectAnswered = `SELECT greatest(answered_at, $2::timestamptz) FROM headgate.schedules WHERE id = $1`

// unanswered returns now, or how far the answers go if that is later: the clock
// may have been set back, and nothing is answered twice.
func (st *Store) unanswered(ctx context.Context, tx pgx.Tx, id string, now time.Time) time.Time {
	at := now
	if err := tx.QueryRow(ctx, selectAnswered, id, now).Scan(&at); err != nil {
		return now // the caller's next statement says what is wrong
	}
	return at
}

const deleteSchedule = `DELETE FROM headgate.schedules WHERE id = $1`

// Delete removes a schedule. Jobs that it has enqueued go on; the answers
// and the record of changes stay until they are old. If a selector's schedule has the
// same name, the tenant has that one within seconds.
func (st *Store) Delete(ctx context.Context, of Key, actor string) error {
	return central.Write(ctx, st.pool, func(tx pgx.Tx) error { return st.DeleteTx(ctx, tx, of, actor) })
}

// DeleteTx is Delete inside the caller's transaction.
func (st *Store) DeleteTx(ctx context.Context, tx pgx.Tx, of Key, actor string) error {
	s, err := st.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return err
	}
	if err := fromTemplate(&s, of); err != nil {
		return err
	}
	if err := access.Say(ctx, tx, actor, ""); err != nil {
		return fmt.Errorf("deleting schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	now, err := central.Clock(ctx, tx)
	if err != nil {
		return err
	}
	outcome, note := Superseded, "the schedule was deleted"
	switch {
	case s.Error != "":
		outcome, note = FailedToEnqueue, s.Error
	case s.Paused:
		outcome, note = SkippedPaused, s.PausedNote
	}
	if err := st.answerAll(ctx, tx, &s, now, outcome, note); err != nil {
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

// Change is one entry in the audit of a schedule.
type Change struct {
	At      time.Time `json:"at"`
	Version int       `json:"version"` // that the change made; 0: it made none
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Note    string    `json:"note,omitempty"`

	id int64
}

const selectChanges = `
SELECT a.id, a.at, coalesce((c.changed->'version'->>'after')::int, 0), coalesce(nullif(a.actor, ''), a.login),
       CASE WHEN a.action = 'add' THEN 'create' WHEN a.action = 'remove' THEN 'delete' WHEN a.action <> 'change' THEN a.action
            WHEN c.changed->'paused'->>'after' = 'true' THEN 'pause' WHEN c.changed ? 'paused' THEN 'resume' ELSE 'edit' END,
       CASE WHEN c.changed ? 'waiting' THEN concat(c.changed->'jobs'->>'after', ' jobs, ', c.changed->'waiting'->>'after', ' waiting') ELSE a.reason END
FROM headgate.audit a
CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(e->>'field', e), '{}') FROM jsonb_array_elements(a.changes) AS e) AS c (changed)
WHERE a.object = 'schedule' AND a.key = $1 AND a.id < $2
ORDER BY a.id DESC
LIMIT $3`

// Changes returns a page of the changes of a schedule (Schedule.ID), the latest first. A
// page has 20 unless it says otherwise, at most 1,000. access.Audit also has what the fields
// were before and after.
func (st *Store) Changes(ctx context.Context, id string, page jobs.Page) (list []Change, next string, err error) {
	if err := checkID(id); err != nil {
		return nil, "", fmt.Errorf("listing the changes of a schedule: %w", err)
	}
	limit, err := page.Size(20, 1000)
	if err != nil {
		return nil, "", fmt.Errorf("listing the changes of a schedule: %w", err)
	}
	behind := int64(math.MaxInt64)
	if page.After != "" {
		if behind, err = strconv.ParseInt(page.After, 36, 64); err != nil {
			return nil, "", fmt.Errorf("listing the changes of a schedule: %w", page.Unknown())
		}
	}
	rows, _ := st.pool.Query(ctx, selectChanges, id, behind, limit+1) // its error is CollectRows' too
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (ch Change, err error) {
		err = row.Scan(&ch.id, &ch.At, &ch.Version, &ch.Actor, &ch.Action, &ch.Note)
		ch.At = ch.At.UTC()
		return ch, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing the changes of a schedule: %w", err)
	}
	list, next = jobs.CutPage(list, limit, func(ch Change) string { return strconv.FormatInt(ch.id, 36) })
	return list, next, nil
}

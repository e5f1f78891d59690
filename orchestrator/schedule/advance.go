package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// advanceSQL moves a batch of schedules on. A schedule in error is not due any
// more and says why.
const advanceSQL = `
UPDATE headgate.schedules s
SET next_run_at = a.next, fresh = s.fresh AND a.kept, former = CASE WHEN a.kept THEN s.former ELSE '[]' END, next_nominal_at = a.nominal, answered_at = a.answered, error = a.error,
    last_run_at = coalesce(a.last_run, s.last_run_at), last_job_uid = nullif(a.last_job, '')::uuid,
    buffered = CASE WHEN a.buffered = '' THEN s.buffered ELSE a.buffered::jsonb END
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::boolean[])
     AS a (id, next, nominal, answered, error, last_run, last_job, buffered, kept)
WHERE s.id = a.id`

// carryOut writes what was decided about a batch.
func (st *Store) carryOut(ctx context.Context, tx pgx.Tx, now time.Time, batch []dueSchedule, decisions []decision, queues queue.Set) error {
	var answers []occurrenceRow
	var items []queue.Draft
	for i := range decisions {
		answers, items = append(answers, decisions[i].answers...), append(items, decisions[i].items...)
		if err := st.cancelBefore(ctx, tx, &decisions[i]); err != nil {
			return err
		}
	}
	answers, err := extendAnswers(ctx, tx, answers)
	if err != nil {
		return err
	}
	written, uids, err := insertAnswers(ctx, tx, answers)
	if err != nil {
		return err
	}
	if written < len(answers) {
		items = notTwice(items, uids)
	}
	if len(items) > 0 {
		for i := range items {
			items[i].WakeLater = queues
		}
		if err := st.queue.InsertMany(ctx, tx, items); err != nil {
			return err
		}
	}
	if err := advance(ctx, tx, batch, decisions); err != nil {
		return err
	}
	return st.pauseAndResume(ctx, tx, now, batch, decisions)
}

func advance(ctx context.Context, tx pgx.Tx, batch []dueSchedule, decisions []decision) error {
	n := len(batch)
	ids, nexts, nominals, answered := make([]string, n), make([]*time.Time, n), make([]*time.Time, n), make([]time.Time, n)
	errs, lastRuns, lasts, buffered := make([]string, n), make([]*time.Time, n), make([]string, n), make([]string, n)
	kept := make([]bool, n)
	for i := range decisions {
		out := &decisions[i]
		ids[i], nexts[i], nominals[i], answered[i] = batch[i].id, out.next, out.nominal, out.answered
		errs[i], lastRuns[i], lasts[i], kept[i] = out.err, out.lastRun, out.last, out.kept
		if len(out.waiting) > 0 || len(batch[i].waiting) > 0 {
			text, err := json.Marshal(append([]waiting{}, out.waiting...))
			if err != nil {
				return err
			}
			buffered[i] = string(text)
		}
	}
	tag, err := tx.Exec(ctx, advanceSQL, ids, nexts, nominals, answered, errs, lastRuns, lasts, buffered, kept)
	if err != nil {
		return fmt.Errorf("advancing %s: %w", jobs.Count(n, "schedule"), err)
	}
	if tag.RowsAffected() != int64(n) {
		return fmt.Errorf("advancing %s changed %s; nothing is fired", jobs.Count(n, "schedule"), jobs.Count(tag.RowsAffected(), "row"))
	}
	return nil
}

// notTwice leaves out the jobs of occurrences that had an answer before: those that the
// new answers do not name.
func notTwice(items []queue.Draft, named []string) []queue.Draft {
	isNew := make(map[string]bool, len(named))
	for _, uid := range named {
		isNew[uid] = true
	}
	return slices.DeleteFunc(items, func(it queue.Draft) bool { return !isNew[it.Meta.UID] })
}

// cancelBefore cancels the run before, unless it ends by itself meanwhile.
func (st *Store) cancelBefore(ctx context.Context, tx pgx.Tx, out *decision) error {
	if out.cancel == "" {
		return nil
	}
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		_, err := st.queue.Cancel(ctx, tx, out.cancel, &jobs.CancelOpts{Actor: scheduler, Reason: "the next occurrence is due (overlap: cancel)"})
		if errors.Is(err, jobs.ErrJobFinished) || errors.Is(err, jobs.ErrUnknownJob) {
			return nil
		}
		return err
	})
}

const pauseFailing = `
UPDATE headgate.schedules SET paused = true, paused_note = $2, paused_by = 'scheduler', paused_at = $3, paused_until = NULL
WHERE id = $1`

const unpause = `
UPDATE headgate.schedules SET paused = false, paused_note = '', paused_by = '', paused_at = NULL, paused_until = NULL, resumed_at = $2
WHERE id = $1`

// scheduler is the actor of what nobody has decided but the clock.
const scheduler = "scheduler"

// pauseAndResume is for the few whose pause begins or ends.
func (st *Store) pauseAndResume(ctx context.Context, tx pgx.Tx, now time.Time, batch []dueSchedule, decisions []decision) (err error) {
	for i := range decisions {
		out := &decisions[i]
		var action string
		switch {
		case out.pause != "":
			action = "pause"
			if err = access.Say(ctx, tx, scheduler, out.pause); err == nil {
				_, err = tx.Exec(ctx, pauseFailing, batch[i].id, out.pause, now)
			}
			st.log.WarnContext(ctx, "schedule paused", "schedule", batch[i].name, "tenant", batch[i].tenant, "why", out.pause)
		case out.unpause:
			action = "resume"
			if err = access.Say(ctx, tx, scheduler, "its pause has ended"); err == nil {
				_, err = tx.Exec(ctx, unpause, batch[i].id, now)
			}
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("%s of schedule %s: %w", action, batch[i].name, err)
		}
	}
	return nil
}

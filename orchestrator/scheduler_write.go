package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// advanceSQL moves a batch of schedules on. A schedule in error is not due any
// more and says why.
const advanceSQL = `
UPDATE headgate.schedules s
SET next_run_at = a.next, fresh = false, next_nominal_at = a.nominal, answered_at = a.answered, error = a.error,
    last_run_at = coalesce(a.last_run, s.last_run_at), last_job_uid = nullif(a.last_job, '')::uuid,
    buffered = CASE WHEN a.buffered = '' THEN s.buffered ELSE a.buffered::jsonb END
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::timestamptz[], $7::text[], $8::text[])
     AS a (id, next, nominal, answered, error, last_run, last_job, buffered)
WHERE s.id = a.id`

const selectFired = `SELECT job_uid::text FROM headgate.occurrences WHERE schedule_id = ANY($1) AND job_uid = ANY($2)`

// carryOut writes what was decided about a batch.
func (c *Client) carryOut(ctx context.Context, tx pgx.Tx, now time.Time, batch []due, decisions []decision, queues queueSet) error {
	var answers []answer
	var items []item
	for i := range decisions {
		answers, items = append(answers, decisions[i].answers...), append(items, decisions[i].items...)
		if err := c.cancelBefore(ctx, tx, &decisions[i]); err != nil {
			return err
		}
	}
	written, err := insertAnswers(ctx, tx, answers)
	if err != nil {
		return err
	}
	if written < len(answers) {
		if items, err = notTwice(ctx, tx, batch, items); err != nil {
			return err
		}
	}
	if len(items) > 0 {
		for i := range items {
			items[i].wakeLater = queues
		}
		if err := c.insertMany(ctx, tx, items); err != nil {
			return err
		}
	}
	if err := advance(ctx, tx, batch, decisions); err != nil {
		return err
	}
	return c.pauseAndResume(ctx, tx, now, batch, decisions)
}

func advance(ctx context.Context, tx pgx.Tx, batch []due, decisions []decision) error {
	n := len(batch)
	ids, nexts, nominals, answered := make([]string, n), make([]*time.Time, n), make([]*time.Time, n), make([]time.Time, n)
	errs, lastRuns, lasts, buffered := make([]string, n), make([]*time.Time, n), make([]string, n), make([]string, n)
	for i := range decisions {
		out := &decisions[i]
		ids[i], nexts[i], nominals[i], answered[i] = batch[i].id, out.next, out.nominal, out.answered
		errs[i], lastRuns[i], lasts[i] = out.err, out.lastRun, out.last
		if len(out.waiting) > 0 || len(batch[i].waiting) > 0 {
			text, err := json.Marshal(append([]waiting{}, out.waiting...))
			if err != nil {
				return err
			}
			buffered[i] = string(text)
		}
	}
	tag, err := tx.Exec(ctx, advanceSQL, ids, nexts, nominals, answered, errs, lastRuns, lasts, buffered)
	if err != nil {
		return fmt.Errorf("advancing %d schedules: %w", n, err)
	}
	if tag.RowsAffected() != int64(n) {
		return fmt.Errorf("advancing %d schedules changed %d rows; nothing is fired", n, tag.RowsAffected())
	}
	return nil
}

// notTwice leaves out the jobs of occurrences that had an answer before.
func notTwice(ctx context.Context, tx pgx.Tx, batch []due, items []item) ([]item, error) {
	ids, uids := make([]string, len(batch)), make([]string, len(items))
	for i := range batch {
		ids[i] = batch[i].id
	}
	for i := range items {
		uids[i] = items[i].meta.UID
	}
	rows, err := tx.Query(ctx, selectFired, ids, uids)
	if err != nil {
		return nil, fmt.Errorf("looking for occurrences that were answered before: %w", err)
	}
	ours, err := asSet(rows)
	if err != nil {
		return nil, err
	}
	kept := items[:0]
	for _, it := range items {
		if ours[it.meta.UID] {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

// cancelBefore cancels the run before, unless it ends by itself meanwhile.
func (c *Client) cancelBefore(ctx context.Context, tx pgx.Tx, out *decision) error {
	if out.cancel == "" {
		return nil
	}
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		_, err := c.CancelTx(ctx, tx, out.cancel, &CancelOpts{Actor: "scheduler", Reason: "the next occurrence is due (overlap: cancel)"})
		if errors.Is(err, ErrJobFinished) || errors.Is(err, ErrUnknownJob) {
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

const insertOwnChange = `
INSERT INTO headgate.schedule_changes (schedule_id, tenant_id, name, version, actor, action, note)
SELECT s.id, s.tenant_id, s.name, s.version, 'scheduler', $2, $3 FROM headgate.schedules s WHERE s.id = $1`

// pauseAndResume is for the few whose pause begins or ends.
func (c *Client) pauseAndResume(ctx context.Context, tx pgx.Tx, now time.Time, batch []due, decisions []decision) (err error) {
	for i := range decisions {
		out := &decisions[i]
		var action string
		switch {
		case out.pause != "":
			action = "pause"
			_, err = tx.Exec(ctx, pauseFailing, batch[i].id, out.pause, now)
			c.log.WarnContext(ctx, "schedule paused", "schedule", batch[i].name, "tenant", batch[i].tenant, "why", out.pause)
		case out.unpause:
			action = "resume"
			_, err = tx.Exec(ctx, unpause, batch[i].id, now)
		default:
			continue
		}
		if err == nil {
			_, err = tx.Exec(ctx, insertOwnChange, batch[i].id, action, out.pause)
		}
		if err != nil {
			return fmt.Errorf("%s of schedule %s: %w", action, batch[i].name, err)
		}
	}
	return nil
}

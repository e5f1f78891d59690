package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// TriggerOpts are the choices of one trigger. nil means the zero value.
type TriggerOpts struct {
	Overlap Overlap // instead of the schedule's own
	Actor   string
}

// Triggered is what a trigger came to.
type Triggered struct {
	UID     string    `json:"uid,omitempty"` // of the job; "" while it waits
	Nominal time.Time `json:"nominal_at"`    // the moment of the trigger
	Waiting bool      `json:"waiting"`       // for the end of the run before it
}

// TriggerSchedule enqueues a schedule's job now, beside its own times, which stay
// as they are; also while it is paused. If the run before it has not ended, the overlap
// policy counts; with skip that is an error that matches ErrScheduleConflict. Errors
// match jobs.ErrTenantSuspended too.
func (c *Client) TriggerSchedule(ctx context.Context, of ScheduleOf, opts *TriggerOpts) (result Triggered, err error) {
	err = c.bell.transact(ctx, func(tx pgx.Tx, queues queueSet) error {
		result, err = c.trigger(ctx, tx, of, opts, queues)
		return err
	})
	return result, err
}

// TriggerScheduleTx is TriggerSchedule inside the caller's transaction.
func (c *Client) TriggerScheduleTx(ctx context.Context, tx pgx.Tx, of ScheduleOf, opts *TriggerOpts) (Triggered, error) {
	return c.trigger(ctx, tx, of, opts, nil)
}

func (c *Client) trigger(ctx context.Context, tx pgx.Tx, of ScheduleOf, opts *TriggerOpts, queues queueSet) (Triggered, error) {
	if opts == nil {
		opts = &TriggerOpts{}
	}
	d, now, err := c.lockAsDue(ctx, tx, of)
	if err != nil {
		return Triggered{}, fmt.Errorf("triggering: %w", err)
	}
	d.policy.Overlap = cmp.Or(opts.Overlap, d.policy.Overlap)
	if err := d.policy.settle(); err != nil {
		return Triggered{}, fmt.Errorf("triggering schedule %s: %w", of.Name, err)
	}
	l := &sight{now: now}
	if d.last != "" {
		if l.running, err = unfinished(ctx, tx, []string{d.last}); err != nil {
			return Triggered{}, err
		}
	}
	out := decision{last: d.last, waiting: d.waiting}
	now = now.UTC().Truncate(time.Microsecond)
	l.overlap(d, []time.Time{now}, &out)
	result := Triggered{Nominal: now}
	for i := range out.answers {
		switch a := &out.answers[i]; {
		case a.NominalAt.Equal(now) && a.Outcome == SkippedOverlap:
			return Triggered{}, fmt.Errorf("%w: schedule %s of %s is at work: %s; wait for it, or give another overlap policy (allow, buffer_one)", ErrScheduleConflict, of.Name, of.owner(), a.Note)
		case a.NominalAt.Equal(now):
			a.Origin, a.EffectiveAt, result.UID = originTrigger, &now, a.JobUID
		}
	}
	if out.err != "" {
		return Triggered{}, fmt.Errorf("triggering schedule %s: %s", of.Name, out.err)
	}
	for i := range out.items {
		out.items[i].meta.Effective = &now
	}
	for i := range out.waiting {
		if out.waiting[i].At.Equal(now) {
			out.waiting[i].Origin, result.Waiting = originTrigger, true
		}
	}
	return result, c.addRuns(ctx, tx, d, &out, now, "trigger", opts.Actor, queues)
}

const selectTenantOf = `SELECT status FROM headgate.tenants WHERE id = nullif($1, '')::uuid`

const lockDueSQL = `
SELECT s.id::text, coalesce(s.tenant_id::text, ''), coalesce(s.database_id::text, ''), s.kind, s.queue, s.cron, s.zone, s.args, s.priority, s.max_attempts,
       s.overlap, s.buffer_max, s.spread, s.place, s.next_run_at, s.next_nominal_at, coalesce(s.last_job_uid::text, ''), s.buffered
FROM headgate.schedules s WHERE s.id = $1 FOR UPDATE`

// lockAsDue reads a schedule as the scheduler does, for jobs beside its times.
func (c *Client) lockAsDue(ctx context.Context, tx pgx.Tx, of ScheduleOf) (*due, time.Time, error) {
	s, err := c.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return nil, time.Time{}, err
	}
	d := &due{name: s.Name, policy: s.Policy, status: "active"}
	var run *time.Time
	err = tx.QueryRow(ctx, lockDueSQL, s.ID).Scan(&d.id, &d.tenant, &d.database, &d.kind, &d.queue, &d.cron, &d.zone, &d.args, &d.priority, &d.maxAttempts,
		&d.policy.Overlap, &d.policy.BufferMax, &d.policy.Spread, &d.place, &run, &d.nominal, &d.last, &d.waiting)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading schedule %s: %w", of.Name, err)
	}
	if run != nil {
		d.run = *run
	}
	if d.tenant != "" {
		if err := tx.QueryRow(ctx, selectTenantOf, d.tenant).Scan(&d.status); err != nil {
			return nil, time.Time{}, fmt.Errorf("reading the tenant of schedule %s: %w", of.Name, err)
		}
		if d.status != "active" && d.status != "moving" {
			return nil, time.Time{}, fmt.Errorf("%w: %s is %s and takes no work", jobs.ErrTenantSuspended, of.owner(), d.status)
		}
	}
	now, err := clock(ctx, tx)
	return d, now, err
}

const addRunsSQL = `
UPDATE headgate.schedules
SET last_job_uid = nullif($2, '')::uuid, buffered = $3::jsonb,
    next_run_at = CASE WHEN $4::timestamptz IS NULL THEN next_run_at ELSE least(next_run_at, $4) END
WHERE id = $1`

// addRuns writes the jobs, answers and waiting occurrences that come beside a
// schedule's own times.
func (c *Client) addRuns(ctx context.Context, tx pgx.Tx, d *due, out *decision, now time.Time, action, actor string, queues queueSet) error {
	if err := c.cancelBefore(ctx, tx, out); err != nil {
		return err
	}
	written, err := insertAnswers(ctx, tx, out.answers)
	if err != nil {
		return err
	}
	if written < len(out.answers) {
		return errors.New("another trigger or backfill was at the same occurrence; try again")
	}
	if len(out.items) > 0 {
		for i := range out.items {
			out.items[i].wakeLater = queues
		}
		if err := c.insertMany(ctx, tx, out.items); err != nil {
			return err
		}
	}
	var soon *time.Time
	if len(out.waiting) > 0 {
		at := now.Add(pollWaiting)
		soon = &at
	}
	if _, err := tx.Exec(ctx, addRunsSQL, d.id, out.last, append([]waiting{}, out.waiting...), soon); err != nil {
		return fmt.Errorf("%s of schedule %s: %w", action, d.name, err)
	}
	if _, err := tx.Exec(ctx, insertChange, d.id, clip(actor, 200), action, fmt.Sprintf("%d jobs, %d waiting", len(out.items), len(out.waiting)), nil, nil); err != nil {
		return fmt.Errorf("recording the %s of schedule %s: %w", action, d.name, err)
	}
	return nil
}

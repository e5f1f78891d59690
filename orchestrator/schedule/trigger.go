package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// TriggerOpts are the choices of one trigger. nil means the zero value.
type TriggerOpts struct {
	Overlap Overlap // instead of the schedule's own
	Actor   string

	// Request is a UUID of the caller's: the same request triggers once, however often
	// it is made, also after a restore of the central database. "" means a new one.
	Request string
}

// Triggered is what a trigger came to.
type Triggered struct {
	UID     string    `json:"uid,omitempty"` // of the job; "" while it waits
	Nominal time.Time `json:"nominal_at"`    // the moment of the trigger
	Waiting bool      `json:"waiting"`       // for the end of the run before it
	Request string    `json:"request"`       // UUID of the request: TriggerOpts.Request, or a new one
	Again   bool      `json:"again"`         // the request was made before; nothing was done now
}

// requestID is the UUID of a request, in lower case: a new one for "".
func requestID(given string) (string, error) {
	if given == "" {
		return uuid.Must(uuid.NewV7()).String(), nil
	}
	id, ok := fit.UUID(given)
	if !ok {
		return "", jobs.Inputf("request", given, "give a UUID (8-4-4-4-12 hexadecimal digits), or leave it out")
	}
	return id.String(), nil
}

// Trigger enqueues a schedule's job now, beside its own times, which stay
// as they are; also while it is paused. If the run before it has not ended, the overlap
// policy counts; with skip that is an error that matches ErrConflict. Errors
// match jobs.ErrTenantSuspended, jobs.ErrFeatureOff and jobs.ErrKindNotAllowed too.
func (st *Store) Trigger(ctx context.Context, of Key, opts *TriggerOpts) (result Triggered, err error) {
	err = st.queue.Transact(ctx, func(tx pgx.Tx, queues queue.Set) error {
		result, err = st.trigger(ctx, tx, of, opts, queues)
		return err
	})
	return result, err
}

// TriggerTx is Trigger inside the caller's transaction.
func (st *Store) TriggerTx(ctx context.Context, tx pgx.Tx, of Key, opts *TriggerOpts) (Triggered, error) {
	return st.trigger(ctx, tx, of, opts, nil)
}

func (st *Store) trigger(ctx context.Context, tx pgx.Tx, of Key, opts *TriggerOpts, queues queue.Set) (Triggered, error) {
	if opts == nil {
		opts = &TriggerOpts{}
	}
	request, err := requestID(opts.Request)
	if err != nil {
		return Triggered{}, fmt.Errorf("triggering schedule %s: %w", of.Name, err)
	}
	d, now, err := st.lockAsDue(ctx, tx, of)
	if err != nil {
		return Triggered{}, fmt.Errorf("triggering: %w", err)
	}
	d.Policy.Overlap = cmp.Or(opts.Overlap, d.Policy.Overlap)
	if err := d.Policy.complete(); err != nil {
		return Triggered{}, fmt.Errorf("triggering schedule %s: %w", of.Name, err)
	}
	now = now.UTC().Truncate(time.Microsecond)
	asked := waiting{At: now, Origin: originTrigger, Request: request}
	if opts.Request != "" {
		if before, err := triggeredBefore(ctx, tx, d, asked); before.Again || err != nil {
			return before, err
		}
	}
	l := &snapshot{now: now, check: st.check}
	if d.last != "" {
		if l.running, err = unfinished(ctx, tx, []string{d.last}); err != nil {
			return Triggered{}, err
		}
	}
	out := decision{last: d.last, waiting: d.waiting}
	l.overlap(d, []waiting{asked}, &out)
	result := Triggered{Nominal: now, Request: request}
	for i := range out.answers {
		switch a := &out.answers[i]; {
		case a.Origin != originTrigger || !a.NominalAt.Equal(now):
		case a.Outcome == SkippedOverlap:
			return Triggered{}, fmt.Errorf("%w: schedule %s of %s is at work: %s; wait for it, or give another overlap policy (allow, buffer_one)", ErrConflict, of.Name, of.owner(), a.Note)
		default:
			a.EffectiveAt, result.UID = &now, a.JobUID
		}
	}
	if out.err != "" {
		return Triggered{}, fmt.Errorf("triggering schedule %s: %s", of.Name, out.err)
	}
	for i := range out.items {
		out.items[i].Meta.Effective = &now
	}
	result.Waiting = slices.Contains(out.waiting, asked)
	return result, st.addRuns(ctx, tx, d, &out, now, "trigger", opts.Actor, queues)
}

const selectTriggered = `
SELECT nominal_at FROM headgate.occurrences WHERE job_uid = $1 AND origin = 'trigger' ORDER BY nominal_at LIMIT 1`

// triggeredBefore returns what the same request came to before, with Again set if there
// was one. The schedule's row is locked.
func triggeredBefore(ctx context.Context, tx pgx.Tx, d *dueSchedule, asked waiting) (Triggered, error) {
	before := Triggered{UID: asked.uid(d), Request: asked.Request, Again: true}
	for _, w := range d.waiting {
		if w.Origin == originTrigger && w.Request == asked.Request {
			return Triggered{Nominal: w.At, Request: w.Request, Waiting: true, Again: true}, nil
		}
	}
	err := tx.QueryRow(ctx, selectTriggered, before.UID).Scan(&before.Nominal)
	if errors.Is(err, pgx.ErrNoRows) {
		return Triggered{}, nil
	}
	before.Nominal = before.Nominal.UTC()
	if err != nil {
		return Triggered{}, fmt.Errorf("looking for trigger %s of schedule %s: %w", asked.Request, d.name, err)
	}
	return before, nil
}

// lockAsDue reads a schedule as the scheduler does, for jobs beside its times.
func (st *Store) lockAsDue(ctx context.Context, tx pgx.Tx, of Key) (*dueSchedule, time.Time, error) {
	s, err := st.readSchedule(ctx, tx, of, lockSchedule)
	if err != nil {
		return nil, time.Time{}, err
	}
	d, run := &dueSchedule{}, (*time.Time)(nil)
	if err := tx.QueryRow(ctx, claimOneSQL, s.ID).Scan(d.into(&run)...); err != nil {
		return nil, time.Time{}, fmt.Errorf("reading schedule %s: %w", of.Name, err)
	}
	if run != nil {
		d.run = *run
	}
	if d.status != "active" && d.status != "moving" || d.refused != "" {
		if err := st.refuse(ctx, tx, d); err != nil {
			return nil, time.Time{}, err
		}
	}
	now, err := central.Clock(ctx, tx)
	return d, now, err
}

const selectMissingFeature = `SELECT coalesce((SELECT r.name FROM headgate.kind_refusal($1, $2, $3) r WHERE r.why = 'feature'), '')`

// refuse says in Enqueue's words why the tenant takes no work, or may not have the schedule or
// its kind; nil if that is over, because somebody has changed the tenant meanwhile.
func (st *Store) refuse(ctx context.Context, tx pgx.Tx, d *dueSchedule) error {
	tenants, err := st.catalog.TenantsByNameTx(ctx, tx, []string{d.tenant})
	if err != nil {
		return err
	}
	tenant := tenants[d.tenant]
	if err := tenant.TakesWork(); err != nil {
		return err
	}
	if err := tenant.MayHave(d.Kind); err != nil {
		return err
	}
	var feature string
	if err := tx.QueryRow(ctx, selectMissingFeature, d.tenant, d.Kind, d.name).Scan(&feature); err != nil {
		return fmt.Errorf("looking for what schedule %s needs: %w", d.name, err)
	}
	if feature == "" {
		return nil
	}
	return tenant.Lacks("schedule "+d.name, feature)
}

const addRunsSQL = `
UPDATE headgate.schedules
SET last_job_uid = nullif($2, '')::uuid, buffered = $3::jsonb,
    next_run_at = CASE WHEN $4::timestamptz IS NULL THEN next_run_at ELSE least(next_run_at, $4) END
WHERE id = $1`

// addRuns writes the jobs, answers and waiting occurrences that come beside a
// schedule's own times.
func (st *Store) addRuns(ctx context.Context, tx pgx.Tx, d *dueSchedule, out *decision, now time.Time, action, actor string, queues queue.Set) error {
	if err := st.cancelBefore(ctx, tx, out); err != nil {
		return err
	}
	written, _, err := insertAnswers(ctx, tx, out.answers)
	if err != nil {
		return err
	}
	if written < len(out.answers) {
		return errors.New("another trigger or backfill was at the same occurrence; try again")
	}
	if len(out.items) > 0 {
		for i := range out.items {
			out.items[i].WakeLater, out.items[i].Meta.TraceParent = queues, telemetry.TraceParent(ctx)
		}
		if err := st.queue.InsertMany(ctx, tx, out.items); err != nil {
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
	return access.Record(ctx, tx, actor, access.Event{
		Object: "schedule", Action: action, Key: d.id, Name: d.name, TenantID: d.tenant,
		Facts: map[string]any{"jobs": len(out.items), "waiting": len(out.waiting)},
	})
}

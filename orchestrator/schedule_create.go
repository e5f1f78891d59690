package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// CreateSchedule stores a schedule; it fires from the first matching time after
// now on. Nothing is stored if a field is wrong. Errors match ErrScheduleExists
// where the tenant has one of that name, and those of Enqueue.
func (c *Client) CreateSchedule(ctx context.Context, params ScheduleParams) (schedule Schedule, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		schedule, err = c.CreateScheduleTx(ctx, tx, params)
		return err
	})
	return schedule, err
}

const insertSchedule = `
INSERT INTO headgate.schedules (id, tenant_id, database_id, name, kind, args, queue, priority, max_attempts, cron, zone,
    gap, repeat, start_at, end_at, max_occurrences, calendars, windows, spread, overlap, buffer_max, catch_up, catch_up_max, catch_up_window, pause_after, maintenance,
    next_nominal_at, answered_at, next_run_at)
VALUES ($1, nullif($2, '')::uuid, nullif($3, '')::uuid, $4, $5, $6, $7, $8, $9, $10, $11,
    $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $28, $26, $27, $26)
RETURNING place`

const placeNext = `UPDATE headgate.schedules SET next_run_at = $2 WHERE id = $1`

// CreateScheduleTx is CreateSchedule inside the caller's transaction on the
// central database.
func (c *Client) CreateScheduleTx(ctx context.Context, tx pgx.Tx, params ScheduleParams) (Schedule, error) {
	if err := checkScheduleName(params.Name); err != nil {
		return Schedule{}, err
	}
	if params.Opts != nil && params.Opts.IdempotencyKey != "" {
		return Schedule{}, fmt.Errorf("schedule %s: an idempotency key is for one job; a schedule's own name keeps it from being created twice", params.Name)
	}
	s, it, err := c.newSchedule(ctx, tx, params)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return Schedule{}, err
	}
	if err := holdCalendars(ctx, tx, s.Policy.Calendars); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	table, err := timetableTx(ctx, tx, s.Cron, s.Zone, &s.Policy)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	nominal, _, err := firstTimes(table, now, 0)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	p := &s.Policy
	err = tx.QueryRow(ctx, insertSchedule, s.ID, it.meta.Tenant, it.meta.Database, s.Name, s.Kind, s.Args, s.Queue, it.priority, it.maxAttempts, s.Cron, s.Zone,
		p.Gap, p.Repeat, p.Start, p.End, p.Max, list(p.Calendars), list(p.Windows), p.Spread, p.Overlap, p.BufferMax, p.CatchUp, p.CatchUpMax, p.CatchUpWindow, p.PauseAfter,
		nominal, now, p.Maintenance).Scan(&s.place)
	if isDouble(err) {
		return Schedule{}, fmt.Errorf("%w: %s has a schedule named %q; choose another name", ErrScheduleExists, ScheduleOf{Tenant: s.Tenant, Database: s.Database}.owner(), s.Name)
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("storing schedule %s: %w", s.Name, err)
	}
	nominal = nominal.UTC()
	run := nominal.Add(s.delay())
	s.Nominal, s.NextRunAt, s.Delay, s.Version = &nominal, &run, int(s.delay().Seconds()), 1
	if s.Delay > 0 {
		if _, err := tx.Exec(ctx, placeNext, s.ID, run); err != nil {
			return Schedule{}, fmt.Errorf("storing schedule %s: %w", s.Name, err)
		}
	}
	return s, c.recordChange(ctx, tx, change{after: &s, action: "create", actor: params.Actor, tenant: it.meta.Tenant})
}

// newSchedule checks what a schedule would enqueue, and for whom. In the meta of
// the item it leaves their ids.
func (c *Client) newSchedule(ctx context.Context, tx pgx.Tx, params ScheduleParams) (Schedule, item, error) {
	if err := params.Policy.settle(); err != nil {
		return Schedule{}, item{}, err
	}
	it, err := newItem(ctx, EnqueueParams{Tenant: params.Tenant, Database: params.Database, Args: params.Args, Opts: params.Opts})
	if err != nil {
		return Schedule{}, it, err
	}
	s := Schedule{
		ID: uuid.Must(uuid.NewV7()).String(), Name: params.Name, Kind: it.kind, Args: it.args, Queue: it.queue,
		Cron: params.Cron, Policy: params.Policy,
	}
	if it.meta.Database != "" {
		s.Database, s.Zone = it.meta.Database, cmp.Or(params.Zone, "UTC")
		it.meta.Database, err = c.catalog.DatabaseIDTx(ctx, tx, s.Database)
		return s, it, err
	}
	tenants, err := c.tenantsOf(ctx, tx, []item{it}, nil)
	if err != nil {
		return s, it, err
	}
	tenant := tenants[it.meta.Tenant]
	if tenant.Status == catalog.Archived {
		return s, it, fmt.Errorf("tenant %s is archived and takes no schedules", tenant.Slug)
	}
	it.meta.Tenant, s.Tenant, s.Zone = tenant.ID, tenant.Slug, cmp.Or(params.Zone, tenant.Timezone, "UTC")
	return s, it, nil
}

// list is never NULL in a column.
func list(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// change is one entry in the record of changes. Of before and after one may be nil.
type change struct {
	before, after               *Schedule
	action, actor, note, tenant string
}

const insertChange = `
INSERT INTO headgate.schedule_changes (schedule_id, tenant_id, name, version, actor, action, note, before, after)
SELECT s.id, s.tenant_id, s.name, s.version, $2, $3, $4, $5, $6 FROM headgate.schedules s WHERE s.id = $1`

// recordChange notes who changed what. The schedule's row must be there.
func (c *Client) recordChange(ctx context.Context, tx pgx.Tx, ch change) error {
	of := ch.after
	if of == nil {
		of = ch.before
	}
	var before, after []byte
	for s, text := range map[*Schedule]*[]byte{ch.before: &before, ch.after: &after} {
		if s == nil {
			continue
		}
		var err error
		if *text, err = json.Marshal(s); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, insertChange, of.ID, clip(ch.actor, 200), ch.action, clip(ch.note, 500), before, after); err != nil {
		return fmt.Errorf("recording the change of schedule %s: %w", of.Name, err)
	}
	return nil
}

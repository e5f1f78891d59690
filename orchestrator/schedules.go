package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// Schedule is one row: a kind and its arguments, enqueued for one tenant
// whenever its cron text says so.
type Schedule struct {
	ID         string          `json:"id"`
	Tenant     string          `json:"tenant"` // slug
	Name       string          `json:"name"`   // unique for the tenant
	Kind       string          `json:"kind"`
	Args       json.RawMessage `json:"args"`
	Queue      string          `json:"queue"`
	Cron       string          `json:"cron"`
	Zone       string          `json:"zone"`
	NextRunAt  *time.Time      `json:"next_run_at"` // nil: paused, or in error
	LastRunAt  *time.Time      `json:"last_run_at"`
	Paused     bool            `json:"paused"`
	PausedNote string          `json:"paused_note,omitempty"`
	Error      string          `json:"error,omitempty"` // why it cannot fire
}

// ScheduleParams is what CreateSchedule needs.
type ScheduleParams struct {
	Tenant string    // slug, UUID or org_id; "" means the context's
	Name   string    // [a-z][a-z0-9-]{0,62}
	Args   jobs.Args // the kind and its arguments
	Cron   string    // five fields, @daily and the like, or @every 10m
	Zone   string    // IANA name; "" means the tenant's own
	Opts   *EnqueueOpts
}

// Errors of schedules, wrapped in a sentence with the names.
var (
	ErrScheduleExists  = errors.New("schedule exists already")
	ErrUnknownSchedule = errors.New("unknown schedule")
)

var scheduleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// CreateSchedule stores a schedule; it fires from the first matching time after
// now on. Nothing is stored if a field is wrong. Opts.RunAt and Opts.Timeout do
// not apply. Errors match ErrScheduleExists where the tenant has one of that
// name, and those of Enqueue.
func (c *Client) CreateSchedule(ctx context.Context, params ScheduleParams) (schedule Schedule, err error) {
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		schedule, err = c.CreateScheduleTx(ctx, tx, params)
		return err
	})
	return schedule, err
}

const insertSchedule = `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, args, queue, priority, max_attempts, cron, zone, next_run_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

// CreateScheduleTx is CreateSchedule inside the caller's transaction on the
// central database.
func (c *Client) CreateScheduleTx(ctx context.Context, tx pgx.Tx, params ScheduleParams) (Schedule, error) {
	if !scheduleName.MatchString(params.Name) {
		return Schedule{}, fmt.Errorf("schedule name %q: give 1 to 63 lower-case letters, digits or dashes, a letter first", cut(params.Name))
	}
	if params.Opts != nil && params.Opts.IdempotencyKey != "" {
		return Schedule{}, fmt.Errorf("schedule %s: an idempotency key is for one job; a schedule's own name keeps it from being created twice", params.Name)
	}
	it, err := newItem(ctx, EnqueueParams{Tenant: params.Tenant, Args: params.Args, Opts: params.Opts})
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	tenants, err := c.tenantsOf(ctx, tx, []item{it}, nil)
	if err != nil {
		return Schedule{}, err
	}
	tenant := tenants[it.meta.Tenant]
	s := Schedule{
		ID: uuid.Must(uuid.NewV7()).String(), Tenant: tenant.Slug, Name: params.Name, Kind: it.kind, Args: it.args,
		Queue: it.queue, Cron: params.Cron, Zone: cmp.Or(params.Zone, tenant.Timezone, "UTC"),
	}
	cron, err := calendar.Parse(s.Cron, s.Zone)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return Schedule{}, err
	}
	next := cron.Next(now)
	s.NextRunAt = &next
	_, err = tx.Exec(ctx, insertSchedule, s.ID, tenant.ID, s.Name, s.Kind, s.Args, s.Queue, it.priority, it.maxAttempts, s.Cron, s.Zone, next)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "23505" {
		return Schedule{}, fmt.Errorf("%w: tenant %s has a schedule named %q; choose another name", ErrScheduleExists, tenant.Slug, s.Name)
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("storing schedule %s: %w", s.Name, err)
	}
	return s, nil
}

const selectNow = `SELECT clock_timestamp()`

// clock reads the database's clock: the only one that schedules know.
func clock(ctx context.Context, tx pgx.Tx) (now time.Time, err error) {
	if err := tx.QueryRow(ctx, selectNow).Scan(&now); err != nil {
		return now, fmt.Errorf("reading the database's clock: %w", err)
	}
	return now, nil
}

// agreedClock is clock, or an error if this process does not agree with it.
func agreedClock(ctx context.Context, tx pgx.Tx, maxSkew time.Duration) (time.Time, error) {
	before := time.Now()
	now, err := clock(ctx, tx)
	if err != nil {
		return now, err
	}
	if skew := jobs.ClockSkew(now, before, time.Now()); skew.Abs() >= maxSkew {
		return now, fmt.Errorf("the central database's clock is %s ahead of this process's (negative: behind): nothing is decided by either until they agree within %s; set the wrong one right", skew.Round(time.Millisecond), maxSkew)
	}
	return now, nil
}

const pauseSchedule = `
UPDATE headgate.schedules SET paused = true, paused_note = $3, next_run_at = NULL
WHERE tenant_id = $1 AND name = $2`

// PauseSchedule stops a schedule from firing until it is resumed; the note says
// why. Pausing twice keeps the newer note. Jobs enqueued before go on.
func (c *Client) PauseSchedule(ctx context.Context, tenant, name, note string) error {
	return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error { return c.PauseScheduleTx(ctx, tx, tenant, name, note) })
}

// PauseScheduleTx is PauseSchedule inside the caller's transaction.
func (c *Client) PauseScheduleTx(ctx context.Context, tx pgx.Tx, tenant, name, note string) error {
	id, err := c.tenantID(ctx, tx, tenant)
	if err != nil {
		return err
	}
	done, err := tx.Exec(ctx, pauseSchedule, id, name, clip(note, 500))
	return one(done, err, tenant, name, "pausing")
}

const resumeSchedule = `
UPDATE headgate.schedules SET paused = false, paused_note = '', error = '', next_run_at = $3
WHERE tenant_id = $1 AND name = $2`

const selectCron = `SELECT cron, zone FROM headgate.schedules WHERE tenant_id = $1 AND name = $2 FOR UPDATE`

// ResumeSchedule lets a paused schedule, or one in error, fire again, from the
// first matching time after now on; what it missed is not made up for.
func (c *Client) ResumeSchedule(ctx context.Context, tenant, name string) error {
	return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error { return c.ResumeScheduleTx(ctx, tx, tenant, name) })
}

// ResumeScheduleTx is ResumeSchedule inside the caller's transaction.
func (c *Client) ResumeScheduleTx(ctx context.Context, tx pgx.Tx, tenant, name string) error {
	id, err := c.tenantID(ctx, tx, tenant)
	if err != nil {
		return err
	}
	var expr, zone string
	if err := tx.QueryRow(ctx, selectCron, id, name).Scan(&expr, &zone); errors.Is(err, pgx.ErrNoRows) {
		return unknownSchedule(tenant, name)
	} else if err != nil {
		return fmt.Errorf("resuming schedule %s of tenant %s: %w", name, tenant, err)
	}
	cron, err := calendar.Parse(expr, zone)
	if err != nil {
		return fmt.Errorf("schedule %s of tenant %s: %w", name, tenant, err)
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return err
	}
	done, err := tx.Exec(ctx, resumeSchedule, id, name, cron.Next(now))
	return one(done, err, tenant, name, "resuming")
}

func (c *Client) tenantID(ctx context.Context, tx pgx.Tx, name string) (string, error) {
	tenants, err := c.catalog.TenantsByNameTx(ctx, tx, []string{name})
	if err != nil {
		return "", err
	}
	return tenants[name].ID, nil
}

func one(done pgconn.CommandTag, err error, tenant, name, doing string) error {
	if err != nil {
		return fmt.Errorf("%s schedule %s of tenant %s: %w", doing, name, tenant, err)
	}
	if done.RowsAffected() == 0 {
		return unknownSchedule(tenant, name)
	}
	return nil
}

func unknownSchedule(tenant, name string) error {
	return fmt.Errorf("%w: tenant %s has no schedule named %q; `headgate schedule list --tenant %s` shows them", ErrUnknownSchedule, tenant, cut(name), tenant)
}

// clip makes text fit for a column: valid UTF-8, no NUL, at most n bytes.
func clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

const listSchedules = `
SELECT s.id::text, t.slug, s.name, s.kind, s.args, s.queue, s.cron, s.zone, s.next_run_at, s.last_run_at, s.paused, s.paused_note, s.error
FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id
WHERE ($1 = '' OR t.slug = $1) AND (t.slug, s.name) > ($2, $3)
ORDER BY t.slug, s.name
LIMIT $4`

// ScheduleFilter selects schedules, a page at a time.
type ScheduleFilter struct {
	Tenant      string // slug; "" means all
	AfterTenant string // continue behind this tenant and name
	AfterName   string
	Limit       int // 0 means 200, at most 1000
}

// Schedules lists schedules by tenant and name.
func (c *Client) Schedules(ctx context.Context, f ScheduleFilter) ([]Schedule, error) {
	rows, err := c.pool.Query(ctx, listSchedules, f.Tenant, f.AfterTenant, f.AfterName, min(cmp.Or(f.Limit, 200), 1000))
	if err != nil {
		return nil, fmt.Errorf("listing schedules: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Schedule, err error) {
		err = row.Scan(&s.ID, &s.Tenant, &s.Name, &s.Kind, &s.Args, &s.Queue, &s.Cron, &s.Zone, &s.NextRunAt, &s.LastRunAt, &s.Paused, &s.PausedNote, &s.Error)
		return s, err
	})
}

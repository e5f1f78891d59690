package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Schedule is one row: a kind and its arguments, enqueued for one tenant, or for
// one database, whenever its cron text says so.
type Schedule struct {
	ID        string          `json:"id"`
	Tenant    string          `json:"tenant"`             // slug; "" for a database's
	Database  string          `json:"database,omitempty"` // name; of a kind of scope database
	Fleet     string          `json:"fleet,omitempty"`    // the fleet schedule that it comes from
	Name      string          `json:"name"`               // unique for the tenant, or the database
	Kind      string          `json:"kind"`
	Args      json.RawMessage `json:"args"`
	Queue     string          `json:"queue"`
	Cron      string          `json:"cron"`
	Zone      string          `json:"zone"`
	Policy    SchedulePolicy  `json:"policy"`
	Delay     int             `json:"delay_seconds"` // of its starts, by its place in the spread
	NextRunAt *time.Time      `json:"next_run_at"`   // nil: paused, ended, or in error
	Nominal   *time.Time      `json:"next_nominal_at"`
	LastRunAt *time.Time      `json:"last_run_at"`
	Waiting   int             `json:"waiting"` // occurrences that wait for the run before them
	Version   int             `json:"version"` // rises with every edit

	Paused      bool       `json:"paused"`
	PausedNote  string     `json:"paused_note,omitempty"`
	PausedBy    string     `json:"paused_by,omitempty"`
	PausedUntil *time.Time `json:"paused_until,omitempty"`
	Error       string     `json:"error,omitempty"` // why it cannot fire

	place float64
}

// SchedulePolicy is what a schedule does beside firing at its times. Durations are
// whole seconds. The zero value of a field means the default given here.
type SchedulePolicy struct {
	Gap    calendar.Gap    `json:"gap,omitempty"`    // for a time that the clocks jump over
	Repeat calendar.Repeat `json:"repeat,omitempty"` // for a time that comes twice

	Start     *time.Time `json:"start,omitempty"` // the first time that may fire
	End       *time.Time `json:"end,omitempty"`   // the last
	Max       int        `json:"max,omitempty"`   // occurrences, counted from Start; 0: no bound
	Calendars []string   `json:"calendars,omitempty"`
	Windows   []string   `json:"windows,omitempty"` // see calendar.ParseWindow

	// Spread is the time over which the starts of many schedules are spread, each
	// at a place of its own, in seconds. Default 0.
	Spread int `json:"spread_seconds,omitempty"`

	// Overlap says what happens when the run before has not ended. Default skip.
	Overlap Overlap `json:"overlap"`

	// BufferMax bounds what OverlapBufferAll lets wait. Default 100, at most 1000.
	BufferMax int `json:"buffer_max,omitempty"`

	// CatchUp says what happens to what was missed while no scheduler ran. Default
	// latest.
	CatchUp CatchUp `json:"catch_up"`

	// CatchUpMax bounds what CatchUpAll fires. Default 10, at most 1000.
	CatchUpMax int `json:"catch_up_max,omitempty"`

	// CatchUpWindow is for how long a missed occurrence is worth firing, in
	// seconds. 0 means for ever; for CatchUpNone a minute.
	CatchUpWindow int `json:"catch_up_window_seconds,omitempty"`

	// PauseAfter is the number of failed jobs in a row that pauses the schedule.
	// 0 means never.
	PauseAfter int `json:"pause_after,omitempty"`

	// Maintenance says that it starts in the maintenance windows of its tenant and
	// server only, where there are any (Closure), and not so late in one that most
	// of its runs, by the 95th percentile of the last two weeks, would overrun it.
	Maintenance bool `json:"maintenance,omitempty"`
}

// Overlap is a policy for an occurrence whose predecessor has not ended.
type Overlap string

// The policies.
const (
	OverlapSkip      Overlap = "skip"       // it is not fired
	OverlapBufferOne Overlap = "buffer_one" // one waits for the end, further ones are not fired
	OverlapBufferAll Overlap = "buffer_all" // up to BufferMax wait, and run one after the other
	OverlapCancel    Overlap = "cancel"     // the run before is cancelled; the newest waits for its end
	OverlapAllow     Overlap = "allow"      // both run
)

// CatchUp is a policy for occurrences that were missed.
type CatchUp string

// The policies.
const (
	CatchUpNone   CatchUp = "none"   // none is fired
	CatchUpLatest CatchUp = "latest" // the last one
	CatchUpAll    CatchUp = "all"    // the last CatchUpMax
)

// Errors of schedules, wrapped in a sentence with the names.
var (
	ErrScheduleExists   = errors.New("schedule exists already")
	ErrUnknownSchedule  = errors.New("unknown schedule")
	ErrScheduleConflict = errors.New("schedule is not as expected")
)

// ScheduleOf names one schedule: of a tenant (slug, UUID or org_id), or of a
// database.
type ScheduleOf struct {
	Tenant   string
	Database string
	Name     string
}

func (o ScheduleOf) owner() string {
	if o.Database != "" {
		return "database " + o.Database
	}
	return "tenant " + o.Tenant
}

// scheduleColumns are in the order of scanSchedule.
const scheduleColumns = `
SELECT s.id::text, coalesce(t.slug, ''), coalesce(d.name, ''), coalesce(f.name, ''), s.name, s.kind, s.args, s.queue, s.cron, s.zone,
       s.gap, s.repeat, s.start_at, s.end_at, s.max_occurrences, s.calendars, s.windows, s.spread, s.place,
       s.overlap, s.buffer_max, s.catch_up, s.catch_up_max, s.catch_up_window, s.pause_after, s.maintenance,
       s.next_run_at, s.next_nominal_at, s.last_run_at, jsonb_array_length(s.buffered), s.version,
       s.paused, s.paused_note, s.paused_by, s.paused_until, s.error
FROM headgate.schedules s
LEFT JOIN headgate.tenants t ON t.id = s.tenant_id
LEFT JOIN headgate.databases d ON d.id = s.database_id
LEFT JOIN headgate.fleets f ON f.id = s.fleet_id
`

func scanSchedule(row pgx.CollectableRow) (s Schedule, err error) {
	p := &s.Policy
	err = row.Scan(&s.ID, &s.Tenant, &s.Database, &s.Fleet, &s.Name, &s.Kind, &s.Args, &s.Queue, &s.Cron, &s.Zone,
		&p.Gap, &p.Repeat, &p.Start, &p.End, &p.Max, &p.Calendars, &p.Windows, &p.Spread, &s.place,
		&p.Overlap, &p.BufferMax, &p.CatchUp, &p.CatchUpMax, &p.CatchUpWindow, &p.PauseAfter, &p.Maintenance,
		&s.NextRunAt, &s.Nominal, &s.LastRunAt, &s.Waiting, &s.Version,
		&s.Paused, &s.PausedNote, &s.PausedBy, &s.PausedUntil, &s.Error)
	s.Delay = int(s.delay() / time.Second)
	for _, at := range []**time.Time{&p.Start, &p.End, &s.NextRunAt, &s.Nominal, &s.LastRunAt, &s.PausedUntil} {
		if *at != nil {
			utc := (*at).UTC()
			*at = &utc
		}
	}
	return s, err
}

func (s *Schedule) delay() time.Duration {
	return calendar.Delay(s.place, time.Duration(s.Policy.Spread)*time.Second)
}

const listSchedules = scheduleColumns + `
WHERE ($1 = '' OR t.slug = $1) AND (coalesce(t.slug, ''), coalesce(d.name, ''), s.name) > ($2, $3, $4)
ORDER BY coalesce(t.slug, ''), coalesce(d.name, ''), s.name
LIMIT $5`

// ScheduleFilter selects schedules, a page at a time.
type ScheduleFilter struct {
	Tenant        string // slug; "" means all, those of databases included
	AfterTenant   string // continue behind this one
	AfterDatabase string
	AfterName     string
	Limit         int // 0 means 200, at most 1000
}

// Schedules lists schedules by tenant, database and name.
func (c *Client) Schedules(ctx context.Context, f ScheduleFilter) ([]Schedule, error) {
	rows, err := c.pool.Query(ctx, listSchedules, f.Tenant, f.AfterTenant, f.AfterDatabase, f.AfterName, min(cmp.Or(f.Limit, 200), 1000))
	if err != nil {
		return nil, fmt.Errorf("listing schedules: %w", err)
	}
	return pgx.CollectRows(rows, scanSchedule)
}

const selectSchedule = scheduleColumns + `
WHERE (s.tenant_id = nullif($1, '')::uuid OR s.database_id = nullif($2, '')::uuid) AND s.name = $3`

const lockSchedule = selectSchedule + ` FOR UPDATE OF s`

// GetSchedule returns one schedule. The error matches ErrUnknownSchedule.
func (c *Client) GetSchedule(ctx context.Context, of ScheduleOf) (s Schedule, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		s, err = c.readSchedule(ctx, tx, of, selectSchedule)
		return err
	})
	return s, err
}

// readSchedule finds a schedule, with lockSchedule for a change.
func (c *Client) readSchedule(ctx context.Context, tx pgx.Tx, of ScheduleOf, sql string) (Schedule, error) {
	tenant, database, err := c.ownerIDs(ctx, tx, of)
	if err != nil {
		return Schedule{}, err
	}
	rows, err := tx.Query(ctx, sql, tenant, database, of.Name)
	if err != nil {
		return Schedule{}, fmt.Errorf("reading schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanSchedule)
	if errors.Is(err, pgx.ErrNoRows) {
		return Schedule{}, unknownSchedule(of)
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("reading schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	return s, nil
}

// ownerIDs returns the id of the tenant or of the database; the other is "".
func (c *Client) ownerIDs(ctx context.Context, tx pgx.Tx, of ScheduleOf) (tenant, database string, err error) {
	switch {
	case of.Tenant != "" && of.Database != "":
		return "", "", fmt.Errorf("schedule %s: give a tenant or a database, not both", of.Name)
	case of.Database != "":
		database, err = c.catalog.DatabaseIDTx(ctx, tx, of.Database)
		return "", database, err
	}
	tenants, err := c.catalog.TenantsByNameTx(ctx, tx, []string{of.Tenant})
	if err != nil {
		return "", "", err
	}
	return tenants[of.Tenant].ID, "", nil
}

// fromFleet refuses to change a schedule by itself that comes from a fleet.
func fromFleet(s *Schedule, of ScheduleOf) error {
	if s.Fleet == "" {
		return nil
	}
	return fmt.Errorf("%w: schedule %s of %s comes from the fleet schedule of that name: change that one, or override it for this tenant in its file", ErrScheduleConflict, of.Name, of.owner())
}

func unknownSchedule(of ScheduleOf) error {
	return fmt.Errorf("%w: %s has no schedule named %q; `headgate schedule list` shows them", ErrUnknownSchedule, of.owner(), cut(of.Name))
}

// isDouble reports that a row of that key is there already.
func isDouble(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505"
}

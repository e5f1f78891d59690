package schedule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Schedule is one row: a kind and its arguments, enqueued for one tenant, or for
// one database, whenever its cron text says so.
type Schedule struct {
	ID       string `json:"id"`
	Tenant   string `json:"tenant"`             // slug; "" for a database's
	Database string `json:"database,omitempty"` // name; of a kind of scope database
	Template string `json:"template,omitempty"` // the template that it comes from
	Name     string `json:"name"`               // unique for the tenant, or the database
	Spec
	Follows      bool       `json:"follows_zone,omitempty"` // the zone is the tenant's, and changes with that
	DelaySeconds int        `json:"delay_seconds"`          // of its starts, by its place in the spread; less where a window ends before
	NextRunAt    *time.Time `json:"next_run_at"`            // nil: paused, ended, or in error
	Nominal      *time.Time `json:"next_nominal_at"`
	LastRunAt    *time.Time `json:"last_run_at"`
	Waiting      int        `json:"waiting"` // occurrences that wait for the run before them
	Version      int        `json:"version"` // rises with every edit

	Paused      bool       `json:"paused"`
	PausedNote  string     `json:"paused_note,omitempty"`
	PausedBy    string     `json:"paused_by,omitempty"`
	PausedUntil *time.Time `json:"paused_until,omitempty"`
	Error       string     `json:"error,omitempty"` // why it cannot fire

	place float64
}

// Errors of schedules, wrapped in a sentence with the names.
var (
	ErrExists   = jobs.Sentinel("schedule_exists", "schedule exists already")
	ErrUnknown  = jobs.Sentinel("unknown_schedule", "unknown schedule")
	ErrConflict = jobs.Sentinel("schedule_conflict", "schedule is not as expected")
)

// Key names one schedule: of a tenant (slug, UUID or org_id), or of a
// database.
type Key struct {
	Tenant   string
	Database string
	Name     string
}

func (o Key) owner() string {
	if o.Database != "" {
		return "database " + o.Database
	}
	return "tenant " + o.Tenant
}

// scheduleColumns are in the order of scanSchedule.
const scheduleColumns = `
SELECT s.id::text, coalesce(t.slug, ''), coalesce(d.name, ''), coalesce(f.name, ''), s.name, s.follows_zone, s.place,
       s.next_run_at, s.next_nominal_at, s.last_run_at, jsonb_array_length(s.buffered), s.version,
       s.paused, s.paused_note, s.paused_by, s.paused_until, s.error, ` + specColumns + `
FROM headgate.schedules s
LEFT JOIN headgate.tenants t ON t.id = s.tenant_id
LEFT JOIN (SELECT id, name FROM headgate.databases) d ON d.id = s.database_id
LEFT JOIN (SELECT id, name FROM headgate.fleets) f ON f.id = s.fleet_id
`

func scanSchedule(row pgx.CollectableRow) (s Schedule, err error) {
	err = row.Scan(append([]any{&s.ID, &s.Tenant, &s.Database, &s.Template, &s.Name, &s.Follows, &s.place,
		&s.NextRunAt, &s.Nominal, &s.LastRunAt, &s.Waiting, &s.Version,
		&s.Paused, &s.PausedNote, &s.PausedBy, &s.PausedUntil, &s.Error}, s.columns()...)...)
	s.DelaySeconds = int(s.delay() / time.Second)
	for _, at := range []**time.Time{&s.Policy.Start, &s.Policy.End, &s.NextRunAt, &s.Nominal, &s.LastRunAt, &s.PausedUntil} {
		if *at != nil {
			utc := (*at).UTC()
			*at = &utc
		}
	}
	return s, err
}

// delay is that of an occurrence that has room for all of the spread.
func (s *Schedule) delay() time.Duration { return calendar.Delay(s.place, s.Policy.Spread) }

// Starts is when an occurrence starts, by its place in the spread and what the windows
// leave of that. A blackout may bring it forward.
func (s *Schedule) Starts(table *calendar.Schedule, at time.Time) time.Time {
	return at.Add(table.Delay(s.place, s.Policy.Spread, at))
}

// checkID refuses what is no Schedule.ID.
func checkID(id string) error {
	if _, ok := fit.UUID(id); !ok {
		return jobs.Inputf("id", id, "give the schedule's UUID (8-4-4-4-12 hexadecimal digits), as Schedule.ID has it")
	}
	return nil
}

// The lists of schedules, behind a name ($2) of an owner ($1). Each walks its owners, and
// of each owner its schedules, by the indexes of their names.
const (
	listScheduleFilter = ` AND ($3 = '' OR s.kind = $3) AND ($4 = '' OR f.name = $4) AND (NOT $5::boolean OR s.paused) AND (NOT $6::boolean OR s.error <> '')
  AND ($8::text[] IS NULL OR s.tenant_id IN (SELECT x.id::uuid FROM unnest($8::text[]) x (id)))`

	listDatabaseSchedules = scheduleColumns + `
WHERE d.name >= $1 AND (d.name > $1 OR s.name > $2) AND s.database_id IS NOT NULL` + listScheduleFilter + `
ORDER BY d.name, s.name LIMIT $7`

	listTenantSchedules = scheduleColumns + `
WHERE t.slug >= $1 AND (t.slug > $1 OR s.name > $2)` + listScheduleFilter + `
ORDER BY t.slug, s.name LIMIT $7`

	listOneTenantsSchedules = scheduleColumns + `
WHERE s.tenant_id = (SELECT id FROM headgate.tenants WHERE slug = $1) AND s.name > $2` + listScheduleFilter + `
ORDER BY s.name LIMIT $7`
)

// Filter selects schedules, a page at a time.
type Filter struct {
	Tenant   string // slug, UUID or org_id; "" means all, those of databases included
	Kind     string // "" means all
	Template string // the schedule for a selector that they come from; "" means all
	Paused   bool   // only those that are paused
	Failing  bool   // only those that cannot fire (Schedule.Error)

	// Select, where it is not the zero value, asks for schedules of tenants that the
	// expression selects when the page is read, archived tenants included.
	Select selector.Selector

	jobs.Page // Limit is 200, at most 1,000
}

// List lists schedules: those of databases by database and name, then those of
// tenants by slug and name. A page costs the same wherever it begins. Errors match
// jobs.ErrUnknownTenant.
func (st *Store) List(ctx context.Context, f Filter) (list []Schedule, next string, err error) {
	limit, err := f.Size(200, 1000)
	if err != nil {
		return nil, "", fmt.Errorf("listing schedules: %w", err)
	}
	if f.Tenant != "" {
		tenant, err := st.catalog.Tenant(ctx, f.Tenant)
		if err != nil {
			return nil, "", fmt.Errorf("listing schedules: %w", err)
		}
		f.Tenant = tenant.Slug
	}
	after, err := f.after()
	if err != nil {
		return nil, "", fmt.Errorf("listing schedules: %w", err)
	}
	var selected []string // nil is any
	if !f.Select.IsAll() {
		if selected, err = st.catalog.ListedIDs(ctx, f.Select); err != nil {
			return nil, "", fmt.Errorf("listing schedules: %w", err)
		}
	}
	read := func(sql, owner, name string) error {
		rows, _ := st.pool.Query(ctx, sql, owner, name, f.Kind, f.Template, f.Paused, f.Failing, limit+1-len(list), selected) // its error is CollectRows' too
		found, err := pgx.CollectRows(rows, scanSchedule)
		list = append(list, found...)
		return err
	}
	switch {
	case f.Tenant != "":
		err = read(listOneTenantsSchedules, f.Tenant, after.Name)
	case after.Tenant != "":
		err = read(listTenantSchedules, after.Tenant, after.Name)
	default:
		if err = read(listDatabaseSchedules, after.Database, after.Name); err == nil && len(list) <= limit {
			err = read(listTenantSchedules, "", "")
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("listing schedules: %w", err)
	}
	list, next = jobs.CutPage(list, limit, func(s Schedule) string {
		if s.Database != "" {
			return ofDatabase + s.Database + "/" + s.Name
		}
		return ofTenant + s.Tenant + "/" + s.Name
	})
	return list, next, nil
}

// The beginnings of a page's After.
const ofTenant, ofDatabase = "tenant:", "database:"

// after is the schedule that the page is behind; no fields are the beginning of the list.
func (f *Filter) after() (of Key, err error) {
	if f.After == "" {
		return Key{}, nil
	}
	owner, name, whole := strings.Cut(f.After, "/")
	switch tenant, its := strings.CutPrefix(owner, ofTenant); {
	case !whole || name == "":
	case its && tenant != "" && (f.Tenant == "" || f.Tenant == tenant):
		return Key{Tenant: tenant, Name: name}, nil
	case strings.HasPrefix(owner, ofDatabase) && f.Tenant == "":
		return Key{Database: strings.TrimPrefix(owner, ofDatabase), Name: name}, nil
	}
	return Key{}, f.Unknown()
}

const selectSchedule = scheduleColumns + `
WHERE (s.tenant_id = nullif($1, '')::uuid OR s.database_id = nullif($2, '')::uuid) AND s.name = $3`

const lockSchedule = selectSchedule + ` FOR UPDATE OF s`

// Get returns one schedule. The error matches ErrUnknown.
func (st *Store) Get(ctx context.Context, of Key) (s Schedule, err error) {
	err = central.Read(ctx, st.pool, func(tx pgx.Tx) error {
		s, err = st.readSchedule(ctx, tx, of, selectSchedule)
		return err
	})
	return s, err
}

// readSchedule finds a schedule, with lockSchedule for a change.
func (d *deps) readSchedule(ctx context.Context, tx pgx.Tx, of Key, sql string) (Schedule, error) {
	tenant, database, err := d.ownerIDs(ctx, tx, of)
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
func (d *deps) ownerIDs(ctx context.Context, tx pgx.Tx, of Key) (tenant, database string, err error) {
	switch {
	case of.Tenant != "" && of.Database != "":
		return "", "", fmt.Errorf("schedule %s: %w", of.Name, jobs.Inputf("tenant", of.Tenant, "a database is given too: give a tenant or a database, not both"))
	case of.Database != "":
		database, err = d.catalog.DatabaseIDTx(ctx, tx, of.Database)
		return "", database, err
	}
	tenants, err := d.catalog.TenantsByNameTx(ctx, tx, []string{of.Tenant})
	if err != nil {
		return "", "", err
	}
	return tenants[of.Tenant].ID, "", nil
}

// fromTemplate refuses to change a schedule by itself that comes from a template.
func fromTemplate(s *Schedule, of Key) error {
	if s.Template == "" {
		return nil
	}
	return fmt.Errorf("%w: schedule %s of %s comes from the template of that name: change that one, or override it for this tenant in its file", ErrConflict, of.Name, of.owner())
}

func unknownSchedule(of Key) error {
	return fmt.Errorf("%w: %s has no schedule named %q; `headgate schedule list` shows them", ErrUnknown, of.owner(), fit.Cut(of.Name))
}

// isDouble reports that a row of that key is there already.
func isDouble(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505"
}

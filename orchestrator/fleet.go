package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
)

// Fleet is a schedule for all tenants of a selector. Each has a Schedule of its
// own of that name, in its own time zone unless Zone is given, with its own next times
// and its own answers; a tenant that is added or changed has its schedules within
// seconds, from the scheduler. A tenant's own schedule of the same name is left alone.
type Fleet struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Select    Selector        `json:"select"`
	Kind      string          `json:"kind"`
	Args      json.RawMessage `json:"args"`
	Queue     string          `json:"queue"`
	Priority  int             `json:"priority"`
	Attempts  int             `json:"max_attempts"`
	Cron      string          `json:"cron"`
	Zone      string          `json:"zone"` // "": each tenant's own
	Policy    SchedulePolicy  `json:"policy"`
	Overrides []FleetOverride `json:"overrides"`
	Version   int             `json:"version"`
	ManagedBy string          `json:"managed_by,omitempty"` // the file that it comes from
	Tenants   int             `json:"tenants"`              // that have it
}

// FleetOverride is what is different for one tenant. What is empty is not.
type FleetOverride struct {
	Tenant string          `json:"tenant"`
	Cron   string          `json:"cron,omitempty"`
	Zone   string          `json:"zone,omitempty"`
	Args   json.RawMessage `json:"args,omitempty"`
}

// FleetParams is what SetFleet needs.
type FleetParams struct {
	Name      string
	Select    Selector
	Args      jobs.Args
	Cron      string
	Zone      string // "" means each tenant's own
	Policy    SchedulePolicy
	Opts      *EnqueueOpts
	Overrides []FleetOverride
	ManagedBy string
	Actor     string
	Note      string // why, for the record of changes

	// Confirm, if it is set, is asked before anything is committed, with the number
	// of tenants that have the fleet's schedule then. An error of it undoes everything,
	// and is returned. It answers at once: whoever has to ask a person first returns an
	// error, asks, and calls again, because the transaction keeps others waiting.
	Confirm func(tenants int) error

	// New makes a fleet of that name that is there already an error, which matches
	// ErrScheduleExists.
	New bool
}

const upsertFleet = `
INSERT INTO headgate.fleets (id, name, kind, args, queue, priority, max_attempts, cron, zone, gap, repeat, start_at, end_at, max_occurrences,
    calendars, windows, spread, overlap, buffer_max, catch_up, catch_up_max, catch_up_window, pause_after, managed_by, maintenance)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, args = excluded.args, queue = excluded.queue, priority = excluded.priority,
    max_attempts = excluded.max_attempts, cron = excluded.cron, zone = excluded.zone, gap = excluded.gap, repeat = excluded.repeat,
    start_at = excluded.start_at, end_at = excluded.end_at, max_occurrences = excluded.max_occurrences, calendars = excluded.calendars,
    windows = excluded.windows, spread = excluded.spread, overlap = excluded.overlap, buffer_max = excluded.buffer_max,
    catch_up = excluded.catch_up, catch_up_max = excluded.catch_up_max, catch_up_window = excluded.catch_up_window,
    pause_after = excluded.pause_after, managed_by = excluded.managed_by, maintenance = excluded.maintenance, version = fleets.version + 1
RETURNING id::text, version`

const clearFleet = `
WITH terms AS (DELETE FROM headgate.fleet_terms WHERE fleet_id = $1)
DELETE FROM headgate.fleet_overrides WHERE fleet_id = $1`

const insertTerm = `INSERT INTO headgate.fleet_terms (fleet_id, field, key, value) VALUES ($1, $2, $3, $4)`

const insertOverride = `
INSERT INTO headgate.fleet_overrides (fleet_id, tenant_id, cron, zone, args) VALUES ($1, $2, nullif($3, ''), nullif($4, ''), $5)`

const syncFleet = `SELECT headgate.sync_fleets($1, NULL)`

// SetFleet stores a fleet under its name, anew or instead of the one that has it,
// and makes, changes and removes the schedules of its tenants, all in one
// transaction. Their next times are computed within a second.
func (c *Client) SetFleet(ctx context.Context, params FleetParams) (fleet Fleet, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		fleet, err = c.SetFleetTx(ctx, tx, params)
		return err
	})
	return fleet, err
}

// SetFleetTx is SetFleet inside the caller's transaction.
func (c *Client) SetFleetTx(ctx context.Context, tx pgx.Tx, params FleetParams) (Fleet, error) {
	if err := takeFleets(ctx, tx); err != nil {
		return Fleet{}, fmt.Errorf("fleet schedule %s: %w", cut(params.Name), err)
	}
	fault.Point(fault.FleetLocked)
	it, err := c.checkFleet(ctx, tx, &params)
	if err != nil {
		return Fleet{}, fmt.Errorf("fleet schedule %s: %w", params.Name, err)
	}
	p, id, version := &params.Policy, uuid.Must(uuid.NewV7()).String(), 0
	err = tx.QueryRow(ctx, upsertFleet, id, params.Name, it.kind, it.args, it.queue, it.priority, it.maxAttempts, params.Cron, params.Zone,
		p.Gap, p.Repeat, p.Start, p.End, p.Max, list(p.Calendars), list(p.Windows), p.Spread, p.Overlap, p.BufferMax, p.CatchUp, p.CatchUpMax, p.CatchUpWindow, p.PauseAfter,
		params.ManagedBy, p.Maintenance).Scan(&id, &version)
	if err != nil {
		return Fleet{}, fmt.Errorf("storing fleet schedule %s: %w", params.Name, err)
	}
	if params.New && version > 1 {
		return Fleet{}, fmt.Errorf("%w: a fleet schedule is named %q; edit it, or choose another name", ErrScheduleExists, params.Name)
	}
	if _, err := tx.Exec(ctx, clearFleet, id); err != nil {
		return Fleet{}, fmt.Errorf("storing fleet schedule %s: %w", params.Name, err)
	}
	for _, t := range params.Select {
		if _, err := tx.Exec(ctx, insertTerm, id, t.Field, t.Key, t.Value); err != nil {
			return Fleet{}, fmt.Errorf("storing the selector of fleet schedule %s: %w", params.Name, err)
		}
	}
	for _, o := range params.Overrides {
		tenant, _, err := c.ownerIDs(ctx, tx, ScheduleOf{Tenant: o.Tenant, Name: params.Name})
		if err != nil {
			return Fleet{}, fmt.Errorf("fleet schedule %s, override: %w", params.Name, err)
		}
		var args []byte
		if len(o.Args) > 0 {
			args = o.Args
		}
		if _, err := tx.Exec(ctx, insertOverride, id, tenant, o.Cron, o.Zone, args); err != nil {
			return Fleet{}, fmt.Errorf("storing the override for %s of fleet schedule %s: %w", o.Tenant, params.Name, err)
		}
	}
	if _, err := tx.Exec(ctx, syncFleet, id); err != nil {
		return Fleet{}, fmt.Errorf("giving tenants fleet schedule %s: %w", params.Name, err)
	}
	fault.Point(fault.FleetSet)
	fleet, err := c.fleet(ctx, tx, params.Name)
	if err != nil {
		return Fleet{}, err
	}
	if params.Confirm != nil {
		if err := params.Confirm(fleet.Tenants); err != nil {
			return Fleet{}, err
		}
	}
	return fleet, recordFleet(ctx, tx, &fleet, params.Actor, "set", params.Note)
}

// checkFleet refuses what no tenant could have.
func (c *Client) checkFleet(ctx context.Context, tx pgx.Tx, params *FleetParams) (item, error) {
	if err := checkScheduleName(params.Name); err != nil {
		return item{}, err
	}
	if err := params.Policy.settle(); err != nil {
		return item{}, err
	}
	if params.Args != nil && jobs.KindOptsOf(params.Args).Scope == jobs.ScopeDatabase {
		return item{}, fmt.Errorf("kind %s works on a whole database; a selector is for the kinds of tenants", params.Args.Kind())
	}
	it, err := newItem(ctx, EnqueueParams{Tenant: "of-a-fleet", Args: params.Args, Opts: params.Opts})
	if err != nil {
		return item{}, err
	}
	if err := holdCalendars(ctx, tx, params.Policy.Calendars); err != nil {
		return item{}, err
	}
	_, err = timetableTx(ctx, tx, params.Cron, cmp.Or(params.Zone, "UTC"), &params.Policy)
	for i := 0; err == nil && i < len(params.Overrides); i++ {
		o := params.Overrides[i]
		_, err = timetableTx(ctx, tx, cmp.Or(o.Cron, params.Cron), cmp.Or(o.Zone, params.Zone, "UTC"), &params.Policy)
		if err == nil && len(o.Args) > 0 && !json.Valid(o.Args) {
			err = errors.New("its arguments are not JSON")
		}
		if err != nil {
			err = fmt.Errorf("override for %s: %w", o.Tenant, err)
		}
	}
	return it, err
}

const selectFleets = `
SELECT f.id::text, f.name, f.kind, f.args, f.queue, f.priority, f.max_attempts, f.cron, f.zone, f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences,
       f.calendars, f.windows, f.spread, f.overlap, f.buffer_max, f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance, f.version, f.managed_by,
       (SELECT count(*) FROM headgate.schedules s WHERE s.fleet_id = f.id),
       (SELECT coalesce(jsonb_agg(jsonb_build_object('field', t.field, 'key', t.key, 'value', t.value) ORDER BY t.field, t.key), '[]') FROM headgate.fleet_terms t WHERE t.fleet_id = f.id),
       (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('tenant', n.slug, 'cron', o.cron, 'zone', o.zone, 'args', o.args)) ORDER BY n.slug), '[]')
        FROM headgate.fleet_overrides o JOIN headgate.tenants n ON n.id = o.tenant_id WHERE o.fleet_id = f.id)
FROM headgate.fleets f
WHERE $1 = '' OR f.name = $1
ORDER BY f.name`

func readFleets(ctx context.Context, tx pgx.Tx, name string) ([]Fleet, error) {
	rows, err := tx.Query(ctx, selectFleets, name)
	if err != nil {
		return nil, fmt.Errorf("reading fleet schedules: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Fleet, err error) {
		p := &f.Policy
		err = row.Scan(&f.ID, &f.Name, &f.Kind, &f.Args, &f.Queue, &f.Priority, &f.Attempts, &f.Cron, &f.Zone, &p.Gap, &p.Repeat, &p.Start, &p.End, &p.Max,
			&p.Calendars, &p.Windows, &p.Spread, &p.Overlap, &p.BufferMax, &p.CatchUp, &p.CatchUpMax, &p.CatchUpWindow, &p.PauseAfter, &p.Maintenance, &f.Version, &f.ManagedBy,
			&f.Tenants, &f.Select, &f.Overrides)
		return f, err
	})
}

func (c *Client) fleet(ctx context.Context, tx pgx.Tx, name string) (Fleet, error) {
	found, err := readFleets(ctx, tx, name)
	if err != nil {
		return Fleet{}, err
	}
	if len(found) == 0 {
		return Fleet{}, fmt.Errorf("%w: no fleet schedule is named %q; `headgate schedule list --fleets` shows them", ErrUnknownSchedule, cut(name))
	}
	return found[0], nil
}

// Fleets returns all fleets by name.
func (c *Client) Fleets(ctx context.Context) (fleets []Fleet, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		fleets, err = readFleets(ctx, tx, "")
		return err
	})
	return fleets, err
}

// GetFleet returns one fleet. The error matches ErrUnknownSchedule.
func (c *Client) GetFleet(ctx context.Context, name string) (fleet Fleet, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		fleet, err = c.fleet(ctx, tx, name)
		return err
	})
	return fleet, err
}

// FleetEdit changes what is not zero. A nil Select leaves the selector as it is,
// one without terms selects all tenants.
type FleetEdit struct {
	ScheduleEdit
	Select  *Selector
	Confirm func(tenants int) error // as in FleetParams
}

// EditFleet changes a fleet and the schedules of its tenants. The error matches
// ErrUnknownSchedule, or ErrScheduleConflict where it has another version by now or
// comes from a file, which says what it is.
func (c *Client) EditFleet(ctx context.Context, name string, edit FleetEdit) (fleet Fleet, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		fleet, err = c.EditFleetTx(ctx, tx, name, edit)
		return err
	})
	return fleet, err
}

// EditFleetTx is EditFleet inside the caller's transaction.
func (c *Client) EditFleetTx(ctx context.Context, tx pgx.Tx, name string, edit FleetEdit) (Fleet, error) {
	if err := takeFleets(ctx, tx); err != nil {
		return Fleet{}, fmt.Errorf("changing fleet schedule %s: %w", cut(name), err)
	}
	f, err := c.fleet(ctx, tx, name)
	switch {
	case err != nil:
		return Fleet{}, err
	case f.ManagedBy != "":
		return Fleet{}, fmt.Errorf("%w: fleet schedule %s comes from the file %s: change it there, and apply that", ErrScheduleConflict, name, f.ManagedBy)
	case edit.Version != 0 && edit.Version != f.Version:
		return Fleet{}, fmt.Errorf("%w: fleet schedule %s has version %d, not %d: look at it again before you change it", ErrScheduleConflict, name, f.Version, edit.Version)
	}
	params := FleetParams{
		Name: name, Select: f.Select, Args: edit.Args, Cron: cmp.Or(edit.Cron, f.Cron), Zone: cmp.Or(edit.Zone, f.Zone), Policy: f.Policy,
		Opts: &EnqueueOpts{Queue: f.Queue, Priority: f.Priority, MaxAttempts: f.Attempts}, Overrides: f.Overrides, Actor: edit.Actor, Note: edit.Note, Confirm: edit.Confirm,
	}
	switch {
	case edit.Args == nil:
		params.Args = storedArgs{f.Kind, f.Args}
	case edit.Args.Kind() != f.Kind:
		params.Opts.Queue = "" // its own
	}
	if edit.Policy != nil {
		edit.Policy(&params.Policy)
	}
	if edit.Select != nil {
		params.Select = *edit.Select
	}
	return c.SetFleetTx(ctx, tx, params)
}

// storedArgs are arguments as a row has them.
type storedArgs struct {
	kind string
	args json.RawMessage
}

func (a storedArgs) Kind() string                 { return a.kind }
func (a storedArgs) MarshalJSON() ([]byte, error) { return a.args, nil }

const deleteFleet = `DELETE FROM headgate.fleets WHERE id = $1`

// DeleteFleet removes a fleet and the schedules that its tenants have of it.
func (c *Client) DeleteFleet(ctx context.Context, name, actor string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.DeleteFleetTx(ctx, tx, name, actor) })
}

// DeleteFleetTx is DeleteFleet inside the caller's transaction.
func (c *Client) DeleteFleetTx(ctx context.Context, tx pgx.Tx, name, actor string) error {
	if err := takeFleets(ctx, tx); err != nil {
		return fmt.Errorf("deleting fleet schedule %s: %w", cut(name), err)
	}
	fleet, err := c.fleet(ctx, tx, name)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, deleteFleet, fleet.ID); err != nil {
		return fmt.Errorf("deleting fleet schedule %s: %w", name, err)
	}
	return recordFleet(ctx, tx, &fleet, actor, "delete", "")
}

const insertFleetChange = `
INSERT INTO headgate.schedule_changes (schedule_id, name, version, actor, action, note, after) VALUES ($1, $2, $3, $4, $5, $6, $7)`

func recordFleet(ctx context.Context, tx pgx.Tx, f *Fleet, actor, action, note string) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insertFleetChange, f.ID, f.Name, f.Version, clip(actor, 200), action+" fleet", clip(note, 500), text); err != nil {
		return fmt.Errorf("recording the change of fleet schedule %s: %w", f.Name, err)
	}
	return nil
}

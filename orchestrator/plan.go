package orchestrator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// ScheduleFile is what a file of schedules says: fleets and exclusion calendars,
// under the name that the file has for itself.
type ScheduleFile struct {
	Name      string
	Calendars map[string][]calendar.DayRange
	Fleets    []FleetParams
	Actor     string

	// Confirm, if it is set, is asked before anything is committed, with the number
	// of tenants' schedules that are made, changed or deleted. An error of it undoes
	// everything, and is returned. It answers at once, as FleetParams.Confirm.
	Confirm func(schedules int) error
}

// PlanStep is one thing that applying a file does.
type PlanStep struct {
	Action string   `json:"action"` // add, change or delete
	What   string   `json:"what"`   // schedule or calendar
	Name   string   `json:"name"`
	Fields []string `json:"fields"`  // what changes, "cron: @daily -> @hourly"
	Select string   `json:"select"`  // of a schedule
	Now    int      `json:"tenants"` // that have it now

	repair bool // only rows of tenants differ
}

// PlanSchedules says what ApplySchedules would do. Nothing is written or locked.
func (c *Client) PlanSchedules(ctx context.Context, file ScheduleFile) (steps []PlanStep, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		steps, err = c.plan(ctx, tx, &file)
		return err
	})
	return steps, err
}

// lockFleets is the lock of selectors: of who changes them, and of who evaluates them.
const lockFleets = `SELECT pg_advisory_xact_lock(hashtextextended('headgate.fleets', 0))`

// takeFleets waits for the lock of selectors. It comes before the statements that
// read tenants or selectors, so that they see what the holder before has committed.
func takeFleets(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, lockFleets); err != nil {
		return fmt.Errorf("waiting for another change of selector schedules: %w", err)
	}
	return nil
}

// ApplySchedules makes the database what a file says, in one transaction, and
// returns what it did; a second time that is nothing. What the file had before and
// has no more is deleted; what is not of this file is left alone.
func (c *Client) ApplySchedules(ctx context.Context, file ScheduleFile) (steps []PlanStep, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		steps, err = c.ApplySchedulesTx(ctx, tx, file)
		return err
	})
	return steps, err
}

// ApplySchedulesTx is ApplySchedules inside the caller's transaction.
func (c *Client) ApplySchedulesTx(ctx context.Context, tx pgx.Tx, file ScheduleFile) ([]PlanStep, error) {
	if err := takeFleets(ctx, tx); err != nil {
		return nil, fmt.Errorf("applying schedules: %w", err)
	}
	steps, err := c.plan(ctx, tx, &file)
	if err != nil {
		return nil, err
	}
	touched := 0
	for _, step := range steps {
		after := step.Now
		switch {
		case step.What == "calendar":
			err = c.SetCalendarTx(ctx, tx, step.Name, file.Calendars[step.Name])
		case step.repair:
			err = repair(ctx, tx, step.Name)
		case step.Action == "delete":
			err = c.DeleteFleetTx(ctx, tx, step.Name, file.Actor)
		default:
			i := slices.IndexFunc(file.Fleets, func(f FleetParams) bool { return f.Name == step.Name })
			params := file.Fleets[i]
			params.ManagedBy, params.Actor = file.Name, file.Actor
			var fleet Fleet
			fleet, err = c.SetFleetTx(ctx, tx, params)
			after = fleet.Tenants
		}
		if err != nil {
			return nil, err
		}
		touched += max(step.Now, after)
	}
	if file.Confirm != nil {
		if err := file.Confirm(touched); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

func (c *Client) plan(ctx context.Context, tx pgx.Tx, file *ScheduleFile) (steps []PlanStep, err error) {
	if err := checkScheduleName(file.Name); err != nil {
		return nil, fmt.Errorf("the file's name: %w", err)
	}
	there, err := readCalendars(ctx, tx, nil)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(file.Calendars)) {
		want, err := calendar.NewDays(name, file.Calendars[name])
		if err != nil {
			return nil, err
		}
		have, ok := there[name]
		switch {
		case !ok:
			steps = append(steps, PlanStep{Action: "add", What: "calendar", Name: name, Fields: []string{}})
		case !slices.Equal(have.Ranges, want.Ranges):
			steps = append(steps, PlanStep{Action: "change", What: "calendar", Name: name, Fields: []string{fmt.Sprintf("days: %d -> %d ranges", len(have.Ranges), len(want.Ranges))}})
		}
		there[name] = want
	}
	fleets, err := readFleets(ctx, tx, "")
	if err != nil {
		return nil, err
	}
	byName, wanted := map[string]*Fleet{}, map[string]bool{}
	for i := range fleets {
		byName[fleets[i].Name] = &fleets[i]
	}
	for i := range file.Fleets {
		params := &file.Fleets[i]
		if wanted[params.Name] {
			return nil, fmt.Errorf("schedule %s is in the file twice", params.Name)
		}
		wanted[params.Name] = true
		step, err := planFleet(params, byName[params.Name], file.Name, there)
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", params.Name, err)
		}
		if step != nil {
			steps = append(steps, *step)
		}
	}
	repairs, err := planRepairs(ctx, tx, file.Name, steps)
	if err != nil {
		return nil, err
	}
	steps = append(steps, repairs...)
	for _, f := range fleets {
		if f.ManagedBy == file.Name && !wanted[f.Name] {
			steps = append(steps, PlanStep{Action: "delete", What: "schedule", Name: f.Name, Fields: []string{}, Select: f.Select.String(), Now: f.Tenants})
		}
	}
	return steps, nil
}

// planFleet compares one schedule of the file with the fleet of its name; nil means
// that they are the same.
func planFleet(params *FleetParams, have *Fleet, file string, calendars map[string]calendar.Days) (*PlanStep, error) {
	if err := checkScheduleName(params.Name); err != nil {
		return nil, err
	}
	if err := params.Policy.settle(); err != nil {
		return nil, err
	}
	it, err := newItem(context.Background(), EnqueueParams{Tenant: "of-a-fleet", Args: params.Args, Opts: params.Opts})
	if err != nil {
		return nil, err
	}
	zone := params.Zone
	if zone == "" {
		zone = "UTC"
	}
	if _, err := timetable(params.Cron, zone, &params.Policy, calendars); err != nil {
		return nil, err
	}
	slices.SortFunc(params.Overrides, func(a, b FleetOverride) int { return bytes.Compare([]byte(a.Tenant), []byte(b.Tenant)) })
	step := &PlanStep{Action: "add", What: "schedule", Name: params.Name, Fields: []string{}, Select: params.Select.String()}
	if have == nil {
		return step, nil
	}
	want := Fleet{Select: params.Select, Kind: it.kind, Args: it.args, Queue: it.queue, Priority: it.priority, Attempts: it.maxAttempts, Cron: params.Cron, Zone: params.Zone, Policy: params.Policy, Overrides: params.Overrides, ManagedBy: file}
	before, after := flatten(have), flatten(&want)
	step.Action, step.Now = "change", have.Tenants
	for _, key := range slices.Sorted(maps.Keys(merged(before, after))) {
		if before[key] != after[key] {
			step.Fields = append(step.Fields, fmt.Sprintf("%s: %s -> %s", key, shown(before[key]), shown(after[key])))
		}
	}
	if len(step.Fields) == 0 {
		return nil, nil //nolint:nilnil // no step
	}
	return step, nil
}

func shown(text string) string {
	if text == "" {
		return "(none)"
	}
	return cut(text)
}

func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// flatten is what a fleet says, field by field, in one way of writing each.
func flatten(f *Fleet) map[string]string {
	out := map[string]string{
		"select": f.Select.String(), "kind": f.Kind, "args": canonical(f.Args), "queue": f.Queue, "priority": strconv.Itoa(f.Priority), "max_attempts": strconv.Itoa(f.Attempts), "cron": f.Cron, "zone": f.Zone, "file": f.ManagedBy,
	}
	for _, o := range f.Overrides {
		o.Args = json.RawMessage(canonical(o.Args))
		text, _ := json.Marshal(o) // it has just been read
		out["override for "+o.Tenant] = string(text)
	}
	policy := f.Policy
	policy.Calendars, policy.Windows = list(policy.Calendars), list(policy.Windows)
	text, _ := json.Marshal(policy)
	fields := map[string]json.RawMessage{}
	_ = json.Unmarshal(text, &fields)
	for name, value := range fields {
		out[name] = string(value)
	}
	return out
}

// canonical writes JSON as Postgres and Go would both write it in the end.
func canonical(text json.RawMessage) string {
	if len(text) == 0 {
		return ""
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return string(text)
	}
	again, _ := json.Marshal(value)
	return string(again)
}

// Drift is one tenant's schedule that is not as its file says.
type Drift struct {
	Schedule string `json:"schedule"`
	Tenant   string `json:"tenant"`
	Is       string `json:"is"` // how it differs
}

const selectDrift = `
SELECT name, slug, is_what
FROM (
    SELECT f.name, t.slug, CASE
        WHEN s.id IS NULL THEN 'missing'
        WHEN s.fleet_id IS DISTINCT FROM f.id THEN 'a schedule of the tenant''s own'
        WHEN s.error <> '' THEN 'in error: ' || s.error
        WHEN s.paused THEN 'paused' || CASE WHEN s.paused_note = '' THEN '' ELSE ': ' || s.paused_note END
        WHEN s.kind <> f.kind OR s.args <> coalesce(o.args, f.args) THEN 'of other kind or arguments'
        WHEN s.cron <> coalesce(o.cron, f.cron) OR s.zone <> coalesce(o.zone, nullif(f.zone, ''), t.timezone) THEN 'at other times: ' || s.cron || ' in ' || s.zone
        WHEN (s.gap, s.repeat, s.overlap, s.catch_up, s.catch_up_max, s.catch_up_window, s.spread, s.pause_after, s.maintenance, s.calendars, s.windows)
          <> (f.gap, f.repeat, f.overlap, f.catch_up, f.catch_up_max, f.catch_up_window, f.spread, f.pause_after, f.maintenance, f.calendars, f.windows) THEN 'of other policies'
        END AS is_what
    FROM headgate.fleets f
    CROSS JOIN LATERAL headgate.selected_tenants(f.id, NULL) AS x (id)
    JOIN headgate.tenants t ON t.id = x.id
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    LEFT JOIN headgate.schedules s ON s.tenant_id = t.id AND s.name = f.name
    WHERE f.managed_by = $1) d
WHERE is_what IS NOT NULL
ORDER BY name, slug
LIMIT 1000`

// wrongRows are what of a drift applying puts right: not what a person has paused,
// what is in error, or what is a tenant's own.
func wrongRows(d Drift) bool {
	return d.Is == "missing" || strings.HasPrefix(d.Is, "at other times") || strings.HasPrefix(d.Is, "of other ")
}

func readDrift(ctx context.Context, tx pgx.Tx, file string) ([]Drift, error) {
	found, err := tx.Query(ctx, selectDrift, file)
	if err != nil {
		return nil, fmt.Errorf("looking for drift: %w", err)
	}
	return pgx.CollectRows(found, pgx.RowToStructByPos[Drift])
}

// planRepairs are steps for fleets of which only rows of tenants are otherwise than
// they should be: somebody has changed them by SQL.
func planRepairs(ctx context.Context, tx pgx.Tx, file string, steps []PlanStep) (repairs []PlanStep, err error) {
	rows, err := readDrift(ctx, tx, file)
	wrong := map[string]int{}
	for _, d := range rows {
		planned := slices.ContainsFunc(steps, func(s PlanStep) bool { return s.What == "schedule" && s.Name == d.Schedule })
		if wrongRows(d) && !planned {
			wrong[d.Schedule]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		repairs = append(repairs, PlanStep{Action: "change", What: "schedule", Name: name, repair: true, Now: wrong[name],
			Fields: []string{fmt.Sprintf("rows of %d tenants: put right", wrong[name])}})
	}
	return repairs, err
}

const spoilRows = `
UPDATE headgate.schedules SET fleet_version = 0 WHERE fleet_id = (SELECT id FROM headgate.fleets WHERE name = $1)`

const syncByName = `SELECT headgate.sync_fleets((SELECT id FROM headgate.fleets WHERE name = $1), NULL)`

// repair makes the rows of a fleet anew.
func repair(ctx context.Context, tx pgx.Tx, name string) error {
	for _, sql := range []string{spoilRows, syncByName} {
		if _, err := tx.Exec(ctx, sql, name); err != nil {
			return fmt.Errorf("putting the rows of schedule %s right: %w", name, err)
		}
	}
	return nil
}

// DriftOf returns what is in the database otherwise than the file says: the steps
// that applying it would take, and the tenants' schedules that were changed, paused
// or broken since, a thousand at most.
func (c *Client) DriftOf(ctx context.Context, file ScheduleFile) (steps []PlanStep, rows []Drift, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		if steps, err = c.plan(ctx, tx, &file); err != nil {
			return err
		}
		steps = slices.DeleteFunc(steps, func(s PlanStep) bool { return s.repair })
		rows, err = readDrift(ctx, tx, file.Name)
		return err
	})
	return steps, rows, err
}

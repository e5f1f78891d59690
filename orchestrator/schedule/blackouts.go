package schedule

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// Blackout is a time in which no schedule of a tenant, or of the tenants of a server,
// starts: it forbids. What a blackout keeps from starting is answered as
// skipped_excluded; what waits for the run before it waits on.
type Blackout struct {
	Name   string     `json:"name"`
	Tenant string     `json:"tenant,omitempty"`
	Server string     `json:"server,omitempty"`
	Spans  []string   `json:"spans"` // see calendar.ParseWindow
	Zone   string     `json:"zone"`  // "": the tenant's own
	From   *time.Time `json:"from"`
	Until  *time.Time `json:"until"`
	Note   string     `json:"note,omitempty"`
}

// MaintenanceWindow is a time in which the schedules for maintenance (Policy.Maintenance)
// of a tenant, or of the tenants of a server, may start: it permits. Where there is one,
// such schedules start at no other time, and what they would have started is answered as
// skipped_excluded. Other schedules do not mind it.
type MaintenanceWindow Blackout

// Errors of blackouts and maintenance windows: none has that name.
var (
	ErrUnknownBlackout          = jobs.Sentinel("unknown_blackout", "unknown blackout")
	ErrUnknownMaintenanceWindow = jobs.Sentinel("unknown_maintenance_window", "unknown maintenance window")
)

// windowKind is which of the two a row is.
type windowKind string

const (
	blackouts    windowKind = "blackout"
	maintenances windowKind = "maintenance"
)

func (k windowKind) String() string {
	if k == maintenances {
		return "maintenance window"
	}
	return string(k)
}

const upsertWindow = `
INSERT INTO headgate.closures (name, kind, tenant_id, server_id, spans, zone, from_at, until_at, note)
VALUES ($1, $2, nullif($3, '')::uuid, (SELECT id FROM headgate.servers WHERE name = nullif($4, '')), $5, $6, $7, $8, $9)
ON CONFLICT (name) DO UPDATE SET tenant_id = excluded.tenant_id, server_id = excluded.server_id, spans = excluded.spans,
    zone = excluded.zone, from_at = excluded.from_at, until_at = excluded.until_at, note = excluded.note
WHERE closures.kind = excluded.kind`

// SetBlackout stores a blackout under its name, anew or instead of the one that has it.
// It counts from the next firing on. The error matches ErrConflict if a maintenance
// window has the name.
func (c *Calendars) SetBlackout(ctx context.Context, b Blackout) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.SetBlackoutTx(ctx, tx, b) })
}

// SetBlackoutTx is SetBlackout inside the caller's transaction.
func (c *Calendars) SetBlackoutTx(ctx context.Context, tx pgx.Tx, b Blackout) error {
	return c.setWindow(ctx, tx, blackouts, b)
}

// SetMaintenanceWindow stores a maintenance window, as SetBlackout.
func (c *Calendars) SetMaintenanceWindow(ctx context.Context, w MaintenanceWindow) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.SetMaintenanceWindowTx(ctx, tx, w) })
}

// SetMaintenanceWindowTx is SetMaintenanceWindow inside the caller's transaction.
func (c *Calendars) SetMaintenanceWindowTx(ctx context.Context, tx pgx.Tx, w MaintenanceWindow) error {
	return c.setWindow(ctx, tx, maintenances, Blackout(w))
}

const serverIsThere = `SELECT EXISTS (SELECT FROM headgate.servers WHERE name = $1)`

func (c *Calendars) setWindow(ctx context.Context, tx pgx.Tx, kind windowKind, cl Blackout) error {
	if !scheduleName.MatchString(cl.Name) {
		return jobs.Inputf("name", cl.Name, "give 1 to 63 lower-case letters, digits or dashes, a letter first")
	}
	if err := jobs.CheckText("note", cl.Note, maxNote); err != nil {
		return fmt.Errorf("%s %s: %w", kind, cl.Name, err)
	}
	switch {
	case (cl.Tenant == "") == (cl.Server == ""):
		return fmt.Errorf("%s %s: %w", kind, cl.Name, jobs.Inputf("tenant", cl.Tenant, "give a tenant or a server"))
	case len(cl.Spans) == 0 || len(cl.Spans) > 50:
		return fmt.Errorf("%s %s: %w", kind, cl.Name, jobs.Inputf("spans", "", "give 1 to 50 spans of the day"))
	case cl.From != nil && cl.Until != nil && cl.Until.Before(*cl.From):
		return fmt.Errorf("%s %s: %w", kind, cl.Name, jobs.Inputf("until", cl.Until.UTC().Format(time.RFC3339), "give a time that is not before from, %s", cl.From.UTC().Format(time.RFC3339)))
	}
	for _, span := range cl.Spans {
		if _, err := calendar.ParseWindow(span); err != nil {
			return fmt.Errorf("%s %s: %w", kind, cl.Name, jobs.AsInputError("spans", err))
		}
	}
	if cl.Zone != "" {
		if _, err := calendar.CheckZone(cl.Zone); err != nil {
			return fmt.Errorf("%s %s: %w", kind, cl.Name, jobs.AsInputError("timezone", err))
		}
	}
	tenant := ""
	if cl.Tenant != "" {
		var err error
		if tenant, _, err = c.ownerIDs(ctx, tx, Key{Tenant: cl.Tenant}); err != nil {
			return err
		}
		if err := c.catalog.HoldTenantsTx(ctx, tx, tenant); err != nil {
			return fmt.Errorf("%s %s: %w", kind, cl.Name, err)
		}
	} else {
		var there bool
		if err := tx.QueryRow(ctx, serverIsThere, cl.Server).Scan(&there); err != nil {
			return fmt.Errorf("storing %s %s: %w", kind, cl.Name, err)
		}
		if !there {
			return fmt.Errorf("%w: there is no server %q; `headgate server list` shows them", catalog.ErrUnknownServer, fit.Cut(cl.Server))
		}
	}
	done, err := tx.Exec(ctx, upsertWindow, cl.Name, string(kind), tenant, cl.Server, cl.Spans, cl.Zone, cl.From, cl.Until, cl.Note)
	if err != nil {
		return fmt.Errorf("storing %s %s: %w", kind, cl.Name, err)
	}
	if done.RowsAffected() == 0 {
		return fmt.Errorf("%w: %q is the name of a blackout or a maintenance window, and this is to be a %s: give another name", ErrConflict, cl.Name, kind)
	}
	if _, err := tx.Exec(ctx, placeAgain, tenant, cl.Server); err != nil {
		return fmt.Errorf("storing %s %s: %w", kind, cl.Name, err)
	}
	return nil
}

// placeAgain lets the scheduler find the places in spreads that a blackout or a maintenance window has changed:
// at the time that each schedule names next.
const placeAgain = `
UPDATE headgate.schedules s SET next_run_at = next_nominal_at, fresh = true
WHERE (s.tenant_id = nullif($1, '')::uuid
       OR s.tenant_id IN (SELECT t.id FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id JOIN headgate.servers v ON v.id = d.server_id WHERE v.name = nullif($2, ''))
       OR s.database_id IN (SELECT d.id FROM headgate.databases d JOIN headgate.servers v ON v.id = d.server_id WHERE v.name = nullif($2, '')))
  AND s.spread > 0 AND s.next_run_at > s.next_nominal_at AND NOT s.fresh AND NOT s.paused AND s.error = '' AND jsonb_array_length(s.buffered) = 0`

// DeleteBlackout removes a blackout. The error matches ErrUnknownBlackout.
func (c *Calendars) DeleteBlackout(ctx context.Context, name string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.DeleteBlackoutTx(ctx, tx, name) })
}

// DeleteBlackoutTx is DeleteBlackout inside the caller's transaction.
func (c *Calendars) DeleteBlackoutTx(ctx context.Context, tx pgx.Tx, name string) error {
	return deleteWindow(ctx, tx, blackouts, name, ErrUnknownBlackout, "`headgate schedule blackout list` shows them")
}

// DeleteMaintenanceWindow removes a maintenance window. The error matches
// ErrUnknownMaintenanceWindow.
func (c *Calendars) DeleteMaintenanceWindow(ctx context.Context, name string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.DeleteMaintenanceWindowTx(ctx, tx, name) })
}

// DeleteMaintenanceWindowTx is DeleteMaintenanceWindow inside the caller's transaction.
func (c *Calendars) DeleteMaintenanceWindowTx(ctx context.Context, tx pgx.Tx, name string) error {
	return deleteWindow(ctx, tx, maintenances, name, ErrUnknownMaintenanceWindow, "`headgate schedule maintenance-window list` shows them")
}

const deleteWindowSQL = `DELETE FROM headgate.closures WHERE name = $1 AND kind = $2`

func deleteWindow(ctx context.Context, tx pgx.Tx, kind windowKind, name string, unknown error, next string) error {
	done, err := tx.Exec(ctx, deleteWindowSQL, name, string(kind))
	if err != nil {
		return fmt.Errorf("deleting %s: %w", fit.Cut(name), err)
	}
	if done.RowsAffected() == 0 {
		return fmt.Errorf("%w %q; %s", unknown, fit.Cut(name), next)
	}
	return nil
}

const selectWindows = `
SELECT c.name, c.kind, coalesce(t.slug, ''), coalesce(v.name, ''), c.spans, c.zone, c.from_at, c.until_at, c.note, coalesce(c.tenant_id, c.server_id)::text
FROM headgate.closures c
LEFT JOIN headgate.tenants t ON t.id = c.tenant_id
LEFT JOIN headgate.servers v ON v.id = c.server_id
ORDER BY c.name`

// Blackouts returns all blackouts by name.
func (c *Calendars) Blackouts(ctx context.Context) (all []Blackout, err error) {
	return c.listWindows(ctx, blackouts)
}

// MaintenanceWindows returns all maintenance windows by name.
func (c *Calendars) MaintenanceWindows(ctx context.Context) (all []MaintenanceWindow, err error) {
	found, err := c.listWindows(ctx, maintenances)
	for _, w := range found {
		all = append(all, MaintenanceWindow(w))
	}
	return all, err
}

func (c *Calendars) listWindows(ctx context.Context, kind windowKind) (all []Blackout, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		found, err := readWindows(ctx, tx)
		for _, list := range found {
			for i := range list {
				if list[i].kind == kind {
					all = append(all, list[i].Blackout)
				}
			}
		}
		slices.SortFunc(all, func(a, b Blackout) int { return strings.Compare(a.Name, b.Name) })
		return err
	})
	return all, err
}

// windows are the blackouts and maintenance windows, by the id of their tenant or server.
type windows map[string][]window

type window struct {
	kind windowKind
	Blackout
	spans []calendar.Window
	bad   error // in a span that somebody has stored past SetBlackout
}

// readWindows reads them all: they are few.
func readWindows(ctx context.Context, tx pgx.Tx) (windows, error) {
	rows, err := tx.Query(ctx, selectWindows)
	if err != nil {
		return nil, fmt.Errorf("reading blackouts and maintenance windows: %w", err)
	}
	all := windows{}
	var w window
	var id string
	_, err = pgx.ForEachRow(rows, []any{&w.Name, &w.kind, &w.Tenant, &w.Server, &w.Spans, &w.Zone, &w.From, &w.Until, &w.Note, &id}, func() error {
		for _, text := range w.Spans {
			span, err := calendar.ParseWindow(text)
			if err != nil {
				w.bad = err
				continue
			}
			w.spans = append(w.spans, span)
		}
		all[id] = append(all[id], w)
		w = window{}
		return nil
	})
	return all, err
}

// start is whose start is asked for.
type start struct {
	tenant, server, zone string
	maintenance          bool
	takes                time.Duration // most of its runs; 0: not known

	named   []time.Time // wall times that stand for the start, as calendar.Named; none: what clocks show then
	namedIn string      // the zone that they are of
}

// why says what keeps a start at a time from happening, or "".
func (all windows) why(s start, at time.Time) string {
	inside, windows := false, ""
	for _, id := range []string{s.tenant, s.server} {
		for i := range all[id] {
			w := &all[id][i]
			if w.From != nil && at.Before(*w.From) || w.Until != nil && !at.Before(*w.Until) {
				continue
			}
			h := w.holds(at, s)
			switch {
			case w.bad != nil && (w.kind == blackouts || s.maintenance): // nobody knows when it is
				return fmt.Sprintf("%s %s cannot be read: %v; set it again, or delete it", w.kind, w.Name, w.bad)
			case w.kind == blackouts && h.all:
				return "blackout " + w.Name + w.reason()
			case w.kind == maintenances && s.maintenance:
				windows += " " + w.Name
				inside = inside || h.any && !at.Add(s.takes).After(h.closes)
			}
		}
	}
	if windows == "" || inside {
		return ""
	}
	if s.takes > 0 {
		return fmt.Sprintf("outside maintenance window%s, or too near its end: most of its runs take up to %s", windows, s.takes.Round(time.Second))
	}
	return "outside maintenance window" + windows
}

func (w *window) reason() string {
	if w.Note == "" {
		return ""
	}
	return " (" + w.Note + ")"
}

// held says how the times that stand for a start lie in a window's spans.
type held struct {
	any, all bool
	closes   time.Time // when the last of the spans ends that hold one
}

// holds looks at the times that a schedule names, where they are of the window's zone,
// else at what clocks of the window's zone show.
func (w *window) holds(at time.Time, s start) (h held) {
	location := w.location(s.zone)
	walls := s.named
	if len(walls) == 0 || s.namedIn != location.String() {
		_, seconds := at.In(location).Zone()
		walls = []time.Time{at.UTC().Add(time.Duration(seconds) * time.Second)}
	}
	h.all = true
	for _, wall := range walls {
		in := false
		for _, span := range w.spans {
			if end, ok := span.ClosesAt(wall); ok {
				in = true
				closes := at.Add(end.Sub(wall))
				if now, ok := span.Closes(at.In(location)); ok { // by the clock, whose day may be longer or shorter
					closes = now
				}
				if closes.After(h.closes) {
					h.closes = closes
				}
			}
		}
		h.any, h.all = h.any || in, h.all && in
	}
	return h
}

func (w *window) location(zone string) *time.Location {
	if w.Zone != "" {
		zone = w.Zone
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return time.UTC
	}
	return location
}

// room is how much of a spread is left behind a time before a blackout begins or, for
// maintenance, the window ends that holds it.
func (all windows) room(s start, at time.Time, spread time.Duration) time.Duration {
	room, window := spread, time.Duration(-1)
	for _, id := range []string{s.tenant, s.server} {
		for i := range all[id] {
			w := &all[id][i]
			switch {
			case w.Until != nil && !at.Before(*w.Until):
			case w.kind == blackouts:
				room = min(room, w.opens(at, s.zone).Sub(at))
			case s.maintenance && (w.From == nil || !at.Before(*w.From)):
				if h := w.holds(at, s); h.any {
					window = max(window, h.closes.Sub(at))
				}
			}
		}
	}
	if window >= 0 {
		room = min(room, window)
	}
	return max(room, 0)
}

// opens is when a span begins next.
func (w *window) opens(at time.Time, zone string) time.Time {
	location, from := w.location(zone), at
	if w.From != nil && at.Before(*w.From) {
		from = *w.From
		for _, span := range w.spans {
			if span.Holds(from.In(location)) {
				return from
			}
		}
	}
	first := at.Add(calendar.MaxSpread)
	for _, span := range w.spans {
		if next := span.NextOpening(from.In(location)); next.Before(first) {
			first = next
		}
	}
	return first
}

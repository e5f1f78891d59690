package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Closure is a time in which schedules of a tenant, or of all tenants of a server,
// do not start: a blackout; or, the other way round, the only time in which those
// for maintenance (SchedulePolicy.Maintenance) do. What it keeps from starting is
// answered as skipped_excluded; what waits for the run before it waits on.
type Closure struct {
	Name   string     `json:"name"`
	Kind   string     `json:"kind"` // blackout or maintenance
	Tenant string     `json:"tenant,omitempty"`
	Server string     `json:"server,omitempty"`
	Spans  []string   `json:"spans"` // see calendar.ParseWindow
	Zone   string     `json:"zone"`  // "": the tenant's own
	From   *time.Time `json:"from"`
	Until  *time.Time `json:"until"`
	Note   string     `json:"note,omitempty"`
}

// ErrUnknownClosure: no blackout or maintenance window has that name.
var ErrUnknownClosure = errors.New("unknown blackout or maintenance window")

const (
	closureBlackout    = "blackout"
	closureMaintenance = "maintenance"
)

const upsertClosure = `
INSERT INTO headgate.closures (name, kind, tenant_id, server_id, spans, zone, from_at, until_at, note)
VALUES ($1, $2, nullif($3, '')::uuid, (SELECT id FROM headgate.servers WHERE name = nullif($4, '')), $5, $6, $7, $8, $9)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, tenant_id = excluded.tenant_id, server_id = excluded.server_id, spans = excluded.spans,
    zone = excluded.zone, from_at = excluded.from_at, until_at = excluded.until_at, note = excluded.note`

// SetClosure stores a blackout or a maintenance window under its name, anew or
// instead of the one that has it. It counts from the next firing on.
func (c *Client) SetClosure(ctx context.Context, cl Closure) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.SetClosureTx(ctx, tx, cl) })
}

const serverIsThere = `SELECT EXISTS (SELECT FROM headgate.servers WHERE name = $1)`

// SetClosureTx is SetClosure inside the caller's transaction.
func (c *Client) SetClosureTx(ctx context.Context, tx pgx.Tx, cl Closure) error {
	if !scheduleName.MatchString(cl.Name) {
		return fmt.Errorf("name %q: give 1 to 63 lower-case letters, digits or dashes, a letter first", cut(cl.Name))
	}
	switch {
	case cl.Kind != closureBlackout && cl.Kind != closureMaintenance:
		return fmt.Errorf("kind %q: give blackout or maintenance", cut(cl.Kind))
	case (cl.Tenant == "") == (cl.Server == ""):
		return fmt.Errorf("%s %s: give a tenant or a server", cl.Kind, cl.Name)
	case len(cl.Spans) == 0 || len(cl.Spans) > 50:
		return fmt.Errorf("%s %s: give 1 to 50 spans of the day", cl.Kind, cl.Name)
	case cl.From != nil && cl.Until != nil && cl.Until.Before(*cl.From):
		return fmt.Errorf("%s %s: until %s is before from %s", cl.Kind, cl.Name, cl.Until.UTC().Format(time.RFC3339), cl.From.UTC().Format(time.RFC3339))
	}
	for _, span := range cl.Spans {
		if _, err := calendar.ParseWindow(span); err != nil {
			return fmt.Errorf("%s %s: %w", cl.Kind, cl.Name, err)
		}
	}
	if cl.Zone != "" {
		if _, err := calendar.CheckZone(cl.Zone); err != nil {
			return fmt.Errorf("%s %s: %w", cl.Kind, cl.Name, err)
		}
	}
	tenant := ""
	if cl.Tenant != "" {
		var err error
		if tenant, _, err = c.ownerIDs(ctx, tx, ScheduleOf{Tenant: cl.Tenant}); err != nil {
			return err
		}
	} else {
		var there bool
		if err := tx.QueryRow(ctx, serverIsThere, cl.Server).Scan(&there); err != nil {
			return fmt.Errorf("storing %s %s: %w", cl.Kind, cl.Name, err)
		}
		if !there {
			return fmt.Errorf("%w: there is no server %q; `headgate server list` shows them", ErrUnknownClosure, cut(cl.Server))
		}
	}
	if _, err := tx.Exec(ctx, upsertClosure, cl.Name, cl.Kind, tenant, cl.Server, cl.Spans, cl.Zone, cl.From, cl.Until, clip(cl.Note, 500)); err != nil {
		return fmt.Errorf("storing %s %s: %w", cl.Kind, cl.Name, err)
	}
	return nil
}

const deleteClosure = `DELETE FROM headgate.closures WHERE name = $1`

// DeleteClosure removes a blackout or a maintenance window. The error matches
// ErrUnknownClosure.
func (c *Client) DeleteClosure(ctx context.Context, name string) error {
	done, err := c.pool.Exec(ctx, deleteClosure, name)
	if err != nil {
		return fmt.Errorf("deleting %s: %w", cut(name), err)
	}
	if done.RowsAffected() == 0 {
		return fmt.Errorf("%w %q; `headgate schedule closure list` shows them", ErrUnknownClosure, cut(name))
	}
	return nil
}

const selectClosures = `
SELECT c.name, c.kind, coalesce(t.slug, ''), coalesce(v.name, ''), c.spans, c.zone, c.from_at, c.until_at, c.note, coalesce(c.tenant_id, c.server_id)::text
FROM headgate.closures c
LEFT JOIN headgate.tenants t ON t.id = c.tenant_id
LEFT JOIN headgate.servers v ON v.id = c.server_id
ORDER BY c.name`

// Closures returns all blackouts and maintenance windows by name.
func (c *Client) Closures(ctx context.Context) (all []Closure, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		_, err := readClosures(ctx, tx, &all)
		return err
	})
	return all, err
}

// closed is what is known of closures, by the id of their tenant or server.
type closed map[string][]closure

type closure struct {
	Closure
	windows []calendar.Window
	bad     error // in a span that somebody has stored past SetClosure
}

// readClosures reads them all: they are few. list, if not nil, gets them in order.
func readClosures(ctx context.Context, tx pgx.Tx, list *[]Closure) (closed, error) {
	rows, err := tx.Query(ctx, selectClosures)
	if err != nil {
		return nil, fmt.Errorf("reading blackouts and maintenance windows: %w", err)
	}
	all := closed{}
	var cl Closure
	var id string
	_, err = pgx.ForEachRow(rows, []any{&cl.Name, &cl.Kind, &cl.Tenant, &cl.Server, &cl.Spans, &cl.Zone, &cl.From, &cl.Until, &cl.Note, &id}, func() error {
		one := closure{Closure: cl}
		for _, span := range cl.Spans {
			w, err := calendar.ParseWindow(span)
			if err != nil {
				one.bad = err
				continue
			}
			one.windows = append(one.windows, w)
		}
		all[id] = append(all[id], one)
		if list != nil {
			*list = append(*list, cl)
		}
		cl = Closure{}
		return nil
	})
	return all, err
}

// start is whose start is asked for.
type start struct {
	tenant, server, zone string
	maintenance          bool
	takes                time.Duration // most of its runs; 0: not known
}

// why says what keeps a start at a time from happening, or "".
func (c closed) why(s start, at time.Time) string {
	inside, windows := false, ""
	for _, id := range []string{s.tenant, s.server} {
		for i := range c[id] {
			cl := &c[id][i]
			if cl.From != nil && at.Before(*cl.From) || cl.Until != nil && !at.Before(*cl.Until) {
				continue
			}
			closes, in := cl.holds(at, s.zone)
			switch {
			case cl.bad != nil && (cl.Kind == closureBlackout || s.maintenance): // nobody knows when it is
				return fmt.Sprintf("%s %s cannot be read: %v; set it again, or delete it", cl.Kind, cl.Name, cl.bad)
			case cl.Kind == closureBlackout && in:
				return "blackout " + cl.Name + cl.reason()
			case cl.Kind == closureMaintenance && s.maintenance:
				windows += " " + cl.Name
				inside = inside || in && !at.Add(s.takes).After(closes)
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

func (cl *closure) reason() string {
	if cl.Note == "" {
		return ""
	}
	return " (" + cl.Note + ")"
}

// holds tells whether a time lies in one of the spans, and when that ends.
func (cl *closure) holds(at time.Time, zone string) (closes time.Time, in bool) {
	if cl.Zone != "" {
		zone = cl.Zone
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		location = time.UTC
	}
	for _, w := range cl.windows {
		if end, ok := w.Closes(at.In(location)); ok && (!in || end.After(closes)) {
			closes, in = end, true
		}
	}
	return closes, in
}

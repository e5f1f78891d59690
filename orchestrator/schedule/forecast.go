package schedule

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// ForecastSlot is ten minutes of one server.
type ForecastSlot struct {
	Server string    `json:"server"`
	At     time.Time `json:"at"` // when it begins
	Starts int       `json:"starts"`

	// BusySeconds is how long connections to the server would be in use: the starts,
	// each with the 95th percentile of its kind's durations in the last two weeks, as the
	// janitor computes them each hour. What has never run counts nothing.
	BusySeconds float64 `json:"busy_seconds"`

	// CapacitySeconds is what the server's budget of connections gives all worker
	// processes together in ten minutes, Share how much of it would be used.
	CapacitySeconds float64 `json:"capacity_seconds"`
	Share           float64 `json:"share"`
}

// SlotLength is how long a slot of a forecast is.
const SlotLength = 10 * time.Minute

const selectForecast = `
SELECT v.name, v.connection_budget, s.place, CASE WHEN s.paused THEN s.paused_until ELSE s.next_nominal_at END,
       coalesce(s.tenant_id::text, ''), v.id::text, coalesce(t.timezone, s.zone), ` + specColumns + `
FROM headgate.schedules s
LEFT JOIN headgate.tenants t ON t.id = s.tenant_id
JOIN (SELECT id, server_id FROM headgate.databases) d ON d.id = coalesce(t.database_id, s.database_id)
JOIN headgate.servers v ON v.id = d.server_id
WHERE s.next_run_at IS NOT NULL AND coalesce(t.status, 'active') IN ('active', 'moving')`

// selectDurations reads a row for each kind. The janitor keeps them
// (durations.go): the history would take seconds.
const selectDurations = `SELECT kind, p95 FROM headgate.durations`

// readDurations returns the 95th percentile of each kind's durations, in seconds.
func readDurations(ctx context.Context, tx pgx.Tx) (map[string]float64, error) {
	rows, err := tx.Query(ctx, selectDurations)
	if err != nil {
		return nil, fmt.Errorf("reading past durations: %w", err)
	}
	durations := map[string]float64{}
	var kind string
	var seconds float64
	_, err = pgx.ForEachRow(rows, []any{&kind, &seconds}, func() error { durations[kind] = seconds; return nil })
	return durations, err
}

// Forecast counts, from the rows, the starts that schedules plan from a time on
// (zero: now), in slots of ten minutes for each server; slots without any are left
// out. It is exactly what will be enqueued, unless somebody changes a schedule, a
// tenant's status, or an overlap policy leaves something out. It reads all schedules.
func (st *Store) Forecast(ctx context.Context, from time.Time, length time.Duration) (slots []ForecastSlot, err error) {
	if length <= 0 || length > 7*24*time.Hour {
		return nil, jobs.Inputf("forecast of", length.String(), "give up to 7 days")
	}
	err = central.Read(ctx, st.pool, func(tx pgx.Tx) error {
		now, err := central.Clock(ctx, tx)
		if err != nil {
			return err
		}
		if from.IsZero() {
			from = now
		}
		slots, err = forecast(ctx, tx, now, from.UTC().Truncate(SlotLength), length)
		return err
	})
	return slots, err
}

// forecaster remembers the occurrences of each timetable: many schedules have few.
type forecaster struct {
	now, from, to time.Time
	durations     map[string]float64
	calendars     map[string]calendar.Days
	windows       windows
	times         map[string]planned
	slots         map[string][]ForecastSlot
}

func forecast(ctx context.Context, tx pgx.Tx, now, from time.Time, length time.Duration) ([]ForecastSlot, error) {
	f := &forecaster{now: now, from: from, to: from.Add(length), times: map[string]planned{}, slots: map[string][]ForecastSlot{}}
	var err error
	f.calendars, err = readCalendars(ctx, tx, nil)
	if bad := (unreadableCalendarsError)(nil); err != nil && !errors.As(err, &bad) { // schedules that name such a one plan nothing
		return nil, err
	}
	if f.windows, err = readWindows(ctx, tx); err != nil {
		return nil, err
	}
	if f.durations, err = readDurations(ctx, tx); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, selectForecast)
	if err != nil {
		return nil, fmt.Errorf("reading schedules: %w", err)
	}
	var server string
	var budget int
	var place float64
	var next *time.Time
	var whose start
	spec := &Spec{}
	_, err = pgx.ForEachRow(rows, append([]any{&server, &budget, &place, &next, &whose.tenant, &whose.server, &whose.zone}, spec.columns()...), func() error {
		whose.maintenance = spec.Policy.Maintenance
		f.add(server, budget, spec, place, next, whose)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading schedules: %w", err)
	}
	return f.result(), nil
}

// planned are the nominal times of one timetable that can start in the forecast.
type planned struct {
	table *calendar.Schedule
	times []int64 // in seconds
}

func (f *forecaster) occurrences(s *Spec) planned {
	var times []any
	for i := range specFields {
		if specFields[i].times {
			times = append(times, "\x00", reflect.ValueOf(specFields[i].of(s)).Elem().Interface())
		}
	}
	key := fmt.Sprint(times...)
	if times, ok := f.times[key]; ok {
		return times
	}
	var of planned
	if table, err := s.Timetable(f.calendars); err == nil { // one in error plans nothing
		of.table = table
		begin := f.from.Add(-calendar.MaxSpread - time.Second)
		for at := table.Next(begin); !at.IsZero() && at.Before(f.to); at = table.Next(at) {
			of.times = append(of.times, at.Unix())
		}
	}
	f.times[key] = of
	return of
}

// add counts the starts of one schedule. Its next occurrence may be overdue; it
// counts in the slot of the present.
func (f *forecaster) add(server string, budget int, spec *Spec, place float64, next *time.Time, whose start) {
	of, spread := f.occurrences(spec), spec.Policy.Spread
	slots := f.slots[server]
	if slots == nil {
		slots = make([]ForecastSlot, int((f.to.Sub(f.from)+SlotLength-1)/SlotLength))
		for i := range slots {
			slots[i] = ForecastSlot{Server: server, At: f.from.Add(time.Duration(i) * SlotLength), CapacitySeconds: float64(budget) * SlotLength.Seconds()}
		}
		f.slots[server] = slots
	}
	earliest := f.now.Unix() + 1
	if next != nil {
		earliest = next.Unix()
	}
	closed := len(f.windows[whose.tenant]) > 0 || len(f.windows[whose.server]) > 0
	whose.takes = time.Duration(f.durations[spec.Kind] * float64(time.Second))
	from, to, late := f.from.Unix(), f.to.Unix(), int64(calendar.Delay(place, spread)/time.Second)
	first, _ := slices.BinarySearch(of.times, max(earliest, from-late))
	for _, at := range of.times[first:] {
		start := at + late
		if late > 0 || closed {
			nominal := time.Unix(at, 0)
			whose.named, whose.namedIn = of.table.Named(nominal), of.table.Zone()
			if closed && f.windows.why(whose, nominal) != "" {
				continue
			}
			start = at + int64(calendar.Delay(place, f.windows.room(whose, nominal, of.table.Room(nominal, spread)))/time.Second)
		}
		if start < from || start >= to {
			continue
		}
		slot := &slots[(start-from)/int64(SlotLength/time.Second)]
		slot.Starts++
		slot.BusySeconds += f.durations[spec.Kind]
	}
}

func (f *forecaster) result() []ForecastSlot {
	all := []ForecastSlot{}
	for _, slots := range f.slots {
		for _, slot := range slots {
			if slot.Starts > 0 {
				slot.Share = slot.BusySeconds / slot.CapacitySeconds
				all = append(all, slot)
			}
		}
	}
	slices.SortFunc(all, func(a, b ForecastSlot) int {
		if a.Server != b.Server {
			return strings.Compare(a.Server, b.Server)
		}
		return a.At.Compare(b.At)
	})
	return all
}

package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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

	// CapacitySeconds is what the server's budget of connections gives one worker
	// process in ten minutes, Share how much of it would be used.
	CapacitySeconds float64 `json:"capacity_seconds"`
	Share           float64 `json:"share"`
}

// SlotLength is how long a slot of a forecast is.
const SlotLength = 10 * time.Minute

const selectForecast = `
SELECT v.name, v.connection_budget, s.kind, s.cron, s.zone, s.gap, s.repeat, s.start_at, s.end_at, s.max_occurrences, s.calendars, s.windows, s.spread, s.place,
       CASE WHEN s.paused THEN s.paused_until ELSE s.next_nominal_at END, s.maintenance, coalesce(s.tenant_id::text, ''), v.id::text, coalesce(t.timezone, s.zone)
FROM headgate.schedules s
LEFT JOIN headgate.tenants t ON t.id = s.tenant_id
JOIN headgate.databases d ON d.id = coalesce(t.database_id, s.database_id)
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
func (c *Client) Forecast(ctx context.Context, from time.Time, length time.Duration) (slots []ForecastSlot, err error) {
	if length <= 0 || length > 7*24*time.Hour {
		return nil, fmt.Errorf("forecast of %s: give up to 7 days", length)
	}
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		now, err := clock(ctx, tx)
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
	closed        closed
	times         map[string][]int64
	slots         map[string][]ForecastSlot
}

func forecast(ctx context.Context, tx pgx.Tx, now, from time.Time, length time.Duration) ([]ForecastSlot, error) {
	f := &forecaster{now: now, from: from, to: from.Add(length), times: map[string][]int64{}, slots: map[string][]ForecastSlot{}}
	var err error
	f.calendars, err = readCalendars(ctx, tx, nil)
	if bad := (unreadableCalendarsError)(nil); err != nil && !errors.As(err, &bad) { // schedules that name such a one plan nothing
		return nil, err
	}
	if f.closed, err = readClosures(ctx, tx, nil); err != nil {
		return nil, err
	}
	if f.durations, err = readDurations(ctx, tx); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, selectForecast)
	if err != nil {
		return nil, fmt.Errorf("reading schedules: %w", err)
	}
	var server, cron, zone, kind string
	var budget int
	var place float64
	var next *time.Time
	var whose start
	p := &SchedulePolicy{}
	_, err = pgx.ForEachRow(rows, []any{&server, &budget, &kind, &cron, &zone, &p.Gap, &p.Repeat, &p.Start, &p.End, &p.Max, &p.Calendars, &p.Windows, &p.Spread, &place, &next, &whose.maintenance, &whose.tenant, &whose.server, &whose.zone}, func() error {
		f.add(server, budget, kind, f.occurrences(cron, zone, p), calendar.Delay(place, time.Duration(p.Spread)*time.Second), next, whose)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading schedules: %w", err)
	}
	return f.result(), nil
}

// occurrences are the nominal times that can start in the forecast, in seconds.
func (f *forecaster) occurrences(cron, zone string, p *SchedulePolicy) []int64 {
	key := fmt.Sprint(cron, "\x00", zone, p.Gap, p.Repeat, p.Start, p.End, p.Max, p.Calendars, p.Windows)
	if times, ok := f.times[key]; ok {
		return times
	}
	var times []int64
	if table, err := timetable(cron, zone, p, f.calendars); err == nil { // one in error plans nothing
		begin := f.from.Add(-calendar.MaxSpread - time.Second)
		for at := table.Next(begin); !at.IsZero() && at.Before(f.to); at = table.Next(at) {
			times = append(times, at.Unix())
		}
	}
	f.times[key] = times
	return times
}

// add counts the starts of one schedule. Its next occurrence may be overdue; it
// counts in the slot of the present.
func (f *forecaster) add(server string, budget int, kind string, times []int64, delay time.Duration, next *time.Time, whose start) {
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
	closed := len(f.closed[whose.tenant]) > 0 || len(f.closed[whose.server]) > 0
	whose.takes = time.Duration(f.durations[kind] * float64(time.Second))
	from, to, late := f.from.Unix(), f.to.Unix(), int64(delay/time.Second)
	first, _ := slices.BinarySearch(times, max(earliest, from-late))
	for _, at := range times[first:] {
		start := at + late
		if start >= to {
			return
		}
		if closed && f.closed.why(whose, time.Unix(start, 0)) != "" {
			continue
		}
		slot := &slots[(start-from)/int64(SlotLength/time.Second)]
		slot.Starts++
		slot.BusySeconds += f.durations[kind]
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

package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// ErrUnknownCalendar: no exclusion calendar has that name.
var ErrUnknownCalendar = errors.New("unknown calendar")

const selectCalendars = `
SELECT name, days FROM headgate.calendars WHERE $1::text[] IS NULL OR name = ANY($1) ORDER BY name`

// unreadableCalendarsError says by name what is wrong with calendars that somebody has
// stored past SetCalendar.
type unreadableCalendarsError map[string]error

func (u unreadableCalendarsError) Error() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(u)) {
		texts = append(texts, fmt.Sprintf("calendar %s cannot be read: %v; set it again (`headgate schedule calendar set %[1]s`)", name, u[name]))
	}
	return strings.Join(texts, "; ")
}

// readCalendars returns the exclusion calendars of these names, those that there
// are; nil means all. With an error of type unreadableCalendarsError it returns all others.
func readCalendars(ctx context.Context, tx pgx.Tx, names []string) (map[string]calendar.Days, error) {
	rows, err := tx.Query(ctx, selectCalendars, names)
	if err != nil {
		return nil, fmt.Errorf("reading exclusion calendars: %w", err)
	}
	found := map[string]calendar.Days{}
	unreadable := unreadableCalendarsError{}
	var name string
	var text []byte
	_, err = pgx.ForEachRow(rows, []any{&name, &text}, func() error {
		var ranges []calendar.DayRange
		err := json.Unmarshal(text, &ranges)
		if err == nil {
			found[name], err = calendar.NewDays(name, ranges)
		}
		if err != nil {
			delete(found, name)
			unreadable[name] = err
		}
		return nil
	})
	if err == nil && len(unreadable) > 0 {
		err = unreadable
	}
	return found, err
}

const holdCalendarsSQL = `SELECT FROM headgate.calendars WHERE name = ANY ($1) ORDER BY name FOR KEY SHARE`

// holdCalendars keeps calendars from being deleted until tx ends, for a schedule
// that names them. It comes before they are read.
func holdCalendars(ctx context.Context, tx pgx.Tx, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, holdCalendarsSQL, names); err != nil {
		return fmt.Errorf("keeping the calendars %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}

const upsertCalendar = `
INSERT INTO headgate.calendars (name, days) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET days = excluded.days`

// SetCalendar stores an exclusion calendar under its name, anew or instead of the
// one that has it. Schedules that name it go by it from their next occurrence on.
func (c *Client) SetCalendar(ctx context.Context, name string, ranges []calendar.DayRange) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.SetCalendarTx(ctx, tx, name, ranges) })
}

// SetCalendarTx is SetCalendar inside the caller's transaction.
func (c *Client) SetCalendarTx(ctx context.Context, tx pgx.Tx, name string, ranges []calendar.DayRange) error {
	if !scheduleName.MatchString(name) {
		return fmt.Errorf("calendar name %q: give 1 to 63 lower-case letters, digits or dashes, a letter first", cut(name))
	}
	days, err := calendar.NewDays(name, ranges)
	if err != nil {
		return err
	}
	if days.Ranges == nil {
		days.Ranges = []calendar.DayRange{}
	}
	if _, err := tx.Exec(ctx, upsertCalendar, name, days.Ranges); err != nil {
		return fmt.Errorf("storing calendar %s: %w", name, err)
	}
	return nil
}

// Calendars returns all exclusion calendars by name.
func (c *Client) Calendars(ctx context.Context) (found map[string]calendar.Days, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		found, err = readCalendars(ctx, tx, nil)
		return err
	})
	return found, err
}

const lockCalendar = `SELECT FROM headgate.calendars WHERE name = $1 FOR UPDATE`

const calendarUsers = `
SELECT (SELECT count(*) FROM headgate.schedules WHERE $1 = ANY(calendars))
     + (SELECT count(*) FROM headgate.fleets f WHERE $1 = ANY(calendars) AND NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.fleet_id = f.id))`

const deleteCalendar = `DELETE FROM headgate.calendars WHERE name = $1`

// DeleteCalendar removes an exclusion calendar that no schedule names.
func (c *Client) DeleteCalendar(ctx context.Context, name string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.DeleteCalendarTx(ctx, tx, name) })
}

// DeleteCalendarTx is DeleteCalendar inside the caller's transaction.
func (c *Client) DeleteCalendarTx(ctx context.Context, tx pgx.Tx, name string) error {
	if _, err := tx.Exec(ctx, lockCalendar, name); err != nil { // those who hold it have stored what names it
		return fmt.Errorf("deleting calendar %s: %w", cut(name), err)
	}
	var users int
	if err := tx.QueryRow(ctx, calendarUsers, name).Scan(&users); err != nil {
		return fmt.Errorf("deleting calendar %s: %w", cut(name), err)
	}
	if users > 0 {
		return fmt.Errorf("%w: calendar %s is named by %d schedules; edit them first", ErrScheduleConflict, name, users)
	}
	done, err := tx.Exec(ctx, deleteCalendar, name)
	if err != nil {
		return fmt.Errorf("deleting calendar %s: %w", cut(name), err)
	}
	if done.RowsAffected() == 0 {
		return fmt.Errorf("%w %q; `headgate schedule calendar list` shows them", ErrUnknownCalendar, cut(name))
	}
	return nil
}

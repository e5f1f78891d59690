package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// ErrUnknownCalendar: no exclusion calendar has that name.
var ErrUnknownCalendar = jobs.Sentinel("unknown_calendar", "unknown calendar")

const selectCalendars = `
SELECT name, days FROM headgate.calendars WHERE $1::text[] IS NULL OR name = ANY($1) ORDER BY name`

// unreadableCalendarsError says by name what is wrong with calendars that somebody has
// stored past Set.
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

const holdCalendarsSQL = `SELECT name FROM headgate.calendars WHERE name = ANY ($1) ORDER BY name FOR KEY SHARE`

// holdCalendars keeps calendars from being deleted until tx ends, for a schedule
// that names them. It comes before they are read. The error matches ErrUnknownCalendar if
// one has been deleted in the moment before.
func holdCalendars(ctx context.Context, tx pgx.Tx, names []string) error {
	if len(names) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, holdCalendarsSQL, names) // its error is CollectRows' too
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("keeping the calendars %s: %w", strings.Join(names, ", "), err)
	}
	for _, name := range names {
		if !slices.Contains(found, name) {
			return jobs.AsInputError("calendars", fmt.Errorf("%w %q; `headgate schedule calendar list` shows them", ErrUnknownCalendar, fit.Cut(name)))
		}
	}
	return nil
}

const upsertCalendar = `
INSERT INTO headgate.calendars (name, days, managed_by) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET days = excluded.days, managed_by = excluded.managed_by`

const selectCalendarOwner = `SELECT managed_by FROM headgate.calendars WHERE name = $1 FOR UPDATE`

// mayChange locks a calendar, if there is one, and refuses to change it for a file, or
// for none, that it does not come from.
func mayChange(ctx context.Context, tx pgx.Tx, name, file string) error {
	var owner string
	switch err := tx.QueryRow(ctx, selectCalendarOwner, name).Scan(&owner); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("reading calendar %s: %w", fit.Cut(name), err)
	case owner != file:
		return fmt.Errorf("%w: calendar %s comes from the file %s: change it there, and apply that", ErrConflict, name, owner)
	}
	return nil
}

// Set stores an exclusion calendar under its name, anew or instead of the
// one that has it. Schedules that name it go by it from their next occurrence on.
func (c *Calendars) Set(ctx context.Context, name string, ranges []calendar.DayRange) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.SetTx(ctx, tx, name, ranges) })
}

// SetTx is Set inside the caller's transaction.
func (c *Calendars) SetTx(ctx context.Context, tx pgx.Tx, name string, ranges []calendar.DayRange) error {
	if err := mayChange(ctx, tx, name, ""); err != nil {
		return err
	}
	return storeCalendar(ctx, tx, name, ranges, "")
}

// storeCalendar stores a calendar that comes from a file, or from none.
func storeCalendar(ctx context.Context, tx pgx.Tx, name string, ranges []calendar.DayRange, file string) error {
	if !scheduleName.MatchString(name) {
		return jobs.Inputf("calendar name", name, "give 1 to 63 lower-case letters, digits or dashes, a letter first")
	}
	days, err := calendar.NewDays(name, ranges)
	if err != nil {
		return jobs.AsInputError("days", err)
	}
	if days.Ranges == nil {
		days.Ranges = []calendar.DayRange{}
	}
	if _, err := tx.Exec(ctx, upsertCalendar, name, days.Ranges, file); err != nil {
		return fmt.Errorf("storing calendar %s: %w", name, err)
	}
	return nil
}

// List returns all exclusion calendars by name.
func (c *Calendars) List(ctx context.Context) (found map[string]calendar.Days, err error) {
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		found, err = c.ListTx(ctx, tx)
		return err
	})
	return found, err
}

// ListTx is List inside the caller's transaction.
func (c *Calendars) ListTx(ctx context.Context, tx pgx.Tx) (map[string]calendar.Days, error) {
	return readCalendars(ctx, tx, nil)
}

// calendarUsers counts who names a calendar, the schedules of one file's templates left
// out.
const calendarUsers = `
SELECT (SELECT count(*) FROM headgate.schedules s WHERE $1 = ANY(s.calendars)
            AND NOT EXISTS (SELECT FROM headgate.fleets f WHERE f.id = s.fleet_id AND f.managed_by = nullif($2, '')))
     + (SELECT count(*) FROM headgate.fleets f WHERE $1 = ANY(f.calendars) AND f.managed_by IS DISTINCT FROM nullif($2, '')
            AND NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.fleet_id = f.id))`

// unused refuses to delete a calendar that is named by schedules which do not come from
// the file.
func unused(ctx context.Context, tx pgx.Tx, name, file string) error {
	var users int
	if err := tx.QueryRow(ctx, calendarUsers, name, file).Scan(&users); err != nil {
		return fmt.Errorf("deleting calendar %s: %w", fit.Cut(name), err)
	}
	if users > 0 {
		return fmt.Errorf("%w: calendar %s is named by %s: edit what names the calendar first", ErrConflict, name, jobs.Count(users, "schedule"))
	}
	return nil
}

const deleteCalendar = `DELETE FROM headgate.calendars WHERE name = $1`

// Delete removes an exclusion calendar that no schedule names.
func (c *Calendars) Delete(ctx context.Context, name string) error {
	return central.Write(ctx, c.pool, func(tx pgx.Tx) error { return c.DeleteTx(ctx, tx, name) })
}

// DeleteTx is Delete inside the caller's transaction.
func (c *Calendars) DeleteTx(ctx context.Context, tx pgx.Tx, name string) error {
	return dropCalendar(ctx, tx, name, "")
}

// dropCalendar deletes a calendar of a file, or of none.
func dropCalendar(ctx context.Context, tx pgx.Tx, name, file string) error {
	if err := mayChange(ctx, tx, name, file); err != nil { // it locks: those who hold the calendar have stored what names it
		return err
	}
	if err := unused(ctx, tx, name, file); err != nil {
		return err
	}
	done, err := tx.Exec(ctx, deleteCalendar, name)
	if err != nil {
		return fmt.Errorf("deleting calendar %s: %w", fit.Cut(name), err)
	}
	if done.RowsAffected() == 0 {
		return fmt.Errorf("%w %q; `headgate schedule calendar list` shows them", ErrUnknownCalendar, fit.Cut(name))
	}
	return nil
}

package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// dueSchedules makes n schedules of acme's that are due, named s1 to sN.
func dueSchedules(t *testing.T, env *jobstest.Env, n int) {
	t.Helper()
	roomtest.Do(t, env, `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, overlap, answered_at, next_nominal_at, next_run_at)
SELECT gen_random_uuid(), t.id, 's' || i, 'note', '0 0 1 1 *', 'UTC', 'allow', now() - interval '2 minutes', now() - interval '1 minute', now() - interval '1 minute'
FROM headgate.tenants t, generate_series(1, $1::int) i WHERE t.slug = 'acme'`, n)
}

// fired are how many schedules have a job, none of them two.
func fired(t *testing.T, env *jobstest.Env) int {
	t.Helper()
	n := roomtest.Count(t, env, `SELECT count(DISTINCT metadata->>'schedule') FROM river_job`)
	require.Equal(t, n, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	return n
}

// errorOf is what a schedule of acme's says is wrong with it, and whether it will be
// tried again.
func errorOf(t *testing.T, env *jobstest.Env, name string) (text string, again bool) {
	t.Helper()
	s, err := env.Schedules.Get(context.Background(), of("acme", name))
	require.NoError(t, err)
	return s.Error, s.NextRunAt != nil
}

// A job that somebody has locked delays the schedule that would cancel it, and
// nobody else's.
func TestALockedJobDelaysItsScheduleOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	s := roomtest.CreateWith(t, env, "replaced", "0 0 1 1 *", schedule.Policy{Overlap: "cancel"})
	dueNow(t, env, s, time.Second)
	require.Equal(t, 1, pass(t, env))
	release := roomtest.Locked(t, env, `SELECT FROM river_job FOR UPDATE`)
	dueNow(t, env, s, time.Second)
	dueSchedules(t, env, 20)
	require.Equal(t, 21, pass(t, env))
	require.Equal(t, 21, fired(t, env))
	text, again := errorOf(t, env, "replaced")
	require.Contains(t, text, "another transaction has job")
	require.True(t, again, "it is asked again")
	require.Equal(t, "fired 1", outcomes(t, env, s), "nothing is answered yet")

	release()
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now() WHERE name = 'replaced'`)
	require.Equal(t, 1, pass(t, env))
	text, _ = errorOf(t, env, "replaced")
	require.Empty(t, text)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE state = 'cancelled'`))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT jsonb_array_length(buffered) FROM headgate.schedules WHERE name = 'replaced'`))
}

// An answer that another transaction is writing delays its own schedule only.
func TestAnOpenAnswerDelaysItsScheduleOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	dueSchedules(t, env, 50)
	release := roomtest.Locked(t, env, `
INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, decided_at)
SELECT id, next_nominal_at, next_nominal_at, 'fired', now() FROM headgate.schedules WHERE name = 's17'`)
	defer release()
	require.Equal(t, 50, pass(t, env))
	require.Equal(t, 49, fired(t, env))
	text, again := errorOf(t, env, "s17")
	require.Contains(t, text, "tried again after 5s")
	require.Contains(t, text, "lock timeout")
	require.True(t, again)
}

// What Postgres refuses of one schedule's job stops that one; what a trigger of
// somebody's raises sets it aside, and it fires when the trigger is gone.
func TestAFailingScheduleIsSetAside(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	dueSchedules(t, env, 200)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET kind = 'odd' WHERE name IN ('s3', 's77', 's200')`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET kind = 'wrong' WHERE name = 's9'`)
	roomtest.OnInsert(t, env, `IF NEW.kind = 'odd' THEN RAISE EXCEPTION 'closed today'; END IF; IF NEW.kind = 'wrong' THEN RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'no such kind'; END IF;`)
	require.Equal(t, 200, pass(t, env))
	require.Equal(t, 196, fired(t, env))
	text, again := errorOf(t, env, "s77")
	require.Equal(t, "it could not be fired, and is tried again after 1m0s: closed today", text)
	require.True(t, again)
	text, again = errorOf(t, env, "s9")
	require.Equal(t, "its job was refused: no such kind", text)
	require.False(t, again)

	roomtest.Do(t, env, `DROP TRIGGER on_insert ON river_job`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now() WHERE kind = 'odd'`)
	require.Equal(t, 3, pass(t, env))
	require.Equal(t, 199, fired(t, env))
	text, _ = errorOf(t, env, "s77")
	require.Empty(t, text)
}

// A row that cannot be read, a calendar and a blackout that cannot be read: each
// stops or delays what it belongs to.
func TestWhatCannotBeReadStopsItsOwn(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	dueSchedules(t, env, 20)
	require.NoError(t, env.Schedules.Calendars.Set(ctx, "feasts", []calendar.DayRange{{From: "2026-03-10"}}))
	roomtest.Do(t, env, `UPDATE headgate.schedules SET buffered = '[1]' WHERE name = 's5'`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET calendars = '{feasts}' WHERE name = 's6'`)
	roomtest.Do(t, env, `UPDATE headgate.calendars SET days = '[{"from": "tomorrow"}]'`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'brick') WHERE name = 's7'`)
	roomtest.Do(t, env, `INSERT INTO headgate.closures (name, kind, tenant_id, spans) SELECT 'odd', 'blackout', id, '{noon}' FROM headgate.tenants WHERE slug = 'brick'`)
	require.Equal(t, 19, pass(t, env), "all but the one that cannot be read")
	require.Equal(t, 17, fired(t, env))
	var text string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT error FROM headgate.schedules WHERE name = 's5' AND next_run_at IS NULL`).Scan(&text))
	require.Contains(t, text, "its row cannot be read: buffered")
	text, again := errorOf(t, env, "s6")
	require.Contains(t, text, "calendar feasts cannot be read")
	require.True(t, again)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences WHERE outcome = 'skipped_excluded' AND note LIKE 'blackout odd cannot be read%'`))
	_, err := env.Schedules.Calendars.Blackouts(ctx)
	require.NoError(t, err)

	for _, sql := range []string{
		`UPDATE headgate.schedules SET next_run_at = '-infinity'`, `UPDATE headgate.schedules SET end_at = 'infinity'`, `UPDATE headgate.schedules SET buffered = '{}'`,
		`UPDATE headgate.schedules SET calendars = '{NULL}'`, `UPDATE headgate.schedules SET place = 'NaN'`, `UPDATE headgate.closures SET until_at = 'infinity'`,
	} {
		_, err := env.Pool.Exec(ctx, sql)
		require.True(t, central.HasCode(err, "23514"), "%s: %v", sql, err)
	}
}

// One schedule whose job takes the database for ever is set aside; the others fire.
func TestASlowScheduleIsSetAside(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	dueSchedules(t, env, 60)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET kind = 'slow' WHERE name = 's31'`)
	roomtest.OnInsert(t, env, `IF NEW.kind = 'slow' THEN PERFORM pg_sleep(60); END IF;`)
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{StatementTimeout: time.Second})
	n, _, err := s.RunOnce(context.Background())
	require.NoError(t, err)
	require.Equal(t, 60, n)
	// On a slow machine others may take a part's time too. They fire when they are asked again,
	// and nobody is set aside for another reason.
	require.Eventually(t, func() bool {
		_, _, err := s.RunOnce(context.Background())
		return err == nil && fired(t, env) == 59
	}, 3*time.Minute, 20*time.Millisecond)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE error <> '' AND error NOT LIKE '%statement timeout%'`))
	text, again := errorOf(t, env, "s31")
	require.Contains(t, text, "statement timeout")
	require.True(t, again)
}

// A database that is many times slower than a batch is made for fires all the same:
// in parts, then in smaller batches, and in larger ones again when it is fast.
func TestASlowDatabaseFiresInSmallerBatches(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	dueSchedules(t, env, 200)
	roomtest.OnInsert(t, env, `PERFORM pg_sleep(0.02);`) // 4 s for all of them
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{Batch: 100, StatementTimeout: time.Second})
	smallest := 100
	for range 100 {
		n, _, err := s.RunOnce(ctx)
		require.NoError(t, err)
		smallest = min(smallest, schedule.BatchSize(s))
		if n == 0 {
			break
		}
	}
	require.Equal(t, 200, fired(t, env))
	require.Less(t, smallest, 100)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE error <> ''`), "nobody is blamed for a slow database")

	roomtest.Do(t, env, `DROP TRIGGER on_insert ON river_job`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_nominal_at = now() - interval '1 second', next_run_at = now() - interval '1 second'`)
	for range 100 {
		n, _, err := s.RunOnce(ctx)
		require.NoError(t, err)
		if n == 0 {
			break
		}
	}
	require.Equal(t, 400, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Greater(t, schedule.BatchSize(s), smallest)
}

// A batch that has decided for long enough fires what it has, and leaves the rest to the
// next: the rows that it holds are not held for ever.
func TestABatchStopsDecidingInTime(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	dueSchedules(t, env, 5)
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{DecideFor: time.Nanosecond})
	for i := range 5 {
		n, _, err := s.RunOnce(context.Background())
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, i+1, fired(t, env))
	}
	n, _, err := s.RunOnce(context.Background())
	require.NoError(t, err)
	require.Zero(t, n)
}

// Firing schedules for maintenance reads how long jobs take, and not the history.
func TestFiringNeedsNoHistory(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	dueSchedules(t, env, 10)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET maintenance = true`)
	roomtest.Do(t, env, `INSERT INTO headgate.closures (name, kind, tenant_id, spans) SELECT 'nights', 'maintenance', id, '{00:00-24:00}' FROM headgate.tenants WHERE slug = 'acme'`)
	release := roomtest.Locked(t, env, `LOCK TABLE headgate.outcomes IN ACCESS EXCLUSIVE MODE`)
	defer release()
	require.Equal(t, 10, pass(t, env))
	require.Equal(t, 10, fired(t, env))
	_, err := env.Schedules.Forecast(context.Background(), time.Time{}, time.Hour)
	require.NoError(t, err)
}

// A scheduler that has stopped in its batch keeps its schedules from the others for
// seconds. It is played by a session that has claimed them, and says nothing more.
func TestAStoppedSchedulerKeepsItsBatchForSeconds(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	dueSchedules(t, env, 30)
	tx, err := central.Begin(ctx, env.Pool, schedule.SchedulerLimits)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	rows, err := tx.Query(ctx, schedule.ClaimDueSQL, time.Now(), 10, time.Time{}, uuid.Nil)
	require.NoError(t, err)
	rows.Close()
	require.NoError(t, rows.Err())
	require.Equal(t, 20, pass(t, env), "who is not in the batch fires beside it")
	require.Equal(t, 20, fired(t, env))
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	require.Eventually(t, func() bool {
		_, _, err := s.RunOnce(ctx)
		return err == nil && fired(t, env) == 30
	}, 10*time.Second, 50*time.Millisecond)
}

// Calendars are not deleted from under a schedule that is being made.
func TestACalendarIsDeletedBesideANewSchedule(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	require.NoError(t, env.Schedules.Calendars.Set(ctx, "feasts", []calendar.DayRange{{From: "2026-03-10"}}))
	for name, create := range map[string]func(tx pgx.Tx) error{
		"a tenant's schedule": func(tx pgx.Tx) error {
			_, err := env.Schedules.CreateTx(ctx, tx, schedule.Params{Tenant: "acme", Name: "own", Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily", Policy: schedule.Policy{Calendars: []string{"feasts"}}}})
			return err
		},
		"a selector's, of nobody yet": func(tx pgx.Tx) error {
			_, err := env.Schedules.Templates.SetTx(ctx, tx, schedule.TemplateParams{Name: "all-of-none", Select: selecting(t, "plan=none"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily", Policy: schedule.Policy{Calendars: []string{"feasts"}}}})
			return err
		},
	} {
		tx, err := env.Pool.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, create(tx), name)
		deleted := make(chan error, 1)
		go func() { deleted <- env.Schedules.Calendars.Delete(ctx, "feasts") }()
		require.Eventually(t, func() bool {
			return roomtest.Count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
		}, 10*time.Second, 5*time.Millisecond, "%s: the deletion waits", name)
		require.NoError(t, tx.Commit(ctx))
		require.ErrorIs(t, <-deleted, schedule.ErrConflict, name)
		roomtest.Do(t, env, `DELETE FROM headgate.fleets`)
		roomtest.Do(t, env, `DELETE FROM headgate.schedules`)
	}
}

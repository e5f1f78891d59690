package schedule_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// missedSince lets a schedule look as if no scheduler had run since a time.
func missedSince(t *testing.T, env *jobstest.Env, s schedule.Schedule, since time.Time) {
	t.Helper()
	table, err := env.Schedules.Timetable(context.Background(), s)
	require.NoError(t, err)
	next := table.Next(since)
	_, err = env.Pool.Exec(context.Background(), `
UPDATE headgate.schedules SET answered_at = $2, next_nominal_at = $3, next_run_at = $3 WHERE id = $1`, s.ID, since, next)
	require.NoError(t, err)
}

// unhurried is a scheduler that lets no slow machine's statement set a schedule aside, and decides about all of a batch.
var unhurried = schedule.SchedulerConfig{StatementTimeout: time.Minute, DecideFor: time.Minute}

func pass(t *testing.T, env *jobstest.Env) int {
	t.Helper()
	n, _, err := schedule.NewScheduler(env.Schedules, unhurried).RunOnce(context.Background())
	require.NoError(t, err)
	return n
}

// outcomes are the answers of a schedule, in order, as "outcome count".
func outcomes(t *testing.T, env *jobstest.Env, s schedule.Schedule) string {
	t.Helper()
	list, _, err := env.Schedules.Occurrences(context.Background(), s.ID, jobs.Page{Limit: 1000})
	require.NoError(t, err)
	var texts []string
	for i := len(list) - 1; i >= 0; i-- {
		texts = append(texts, fmt.Sprintf("%s %d", list[i].Outcome, list[i].Count))
	}
	return strings.Join(texts, ", ")
}

// A minutely schedule that nobody fired for thirty days has 0, 1 or 10 runs, by its
// policy, and every one of the missed occurrences is answered.
func TestCatchUpAfterThirtyDays(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, c := range []struct {
		policy schedule.Policy
		jobs   int
	}{
		{schedule.Policy{CatchUp: "none"}, 0},
		{schedule.Policy{CatchUp: "latest"}, 1},
		{schedule.Policy{CatchUp: "all", CatchUpMax: 10}, 10},
		{schedule.Policy{CatchUp: "all", CatchUpMax: 10, CatchUpWindow: time.Hour}, 10},
		{schedule.Policy{CatchUp: "all", CatchUpMax: 100, CatchUpWindow: 5 * time.Minute}, 5},
	} {
		name := fmt.Sprintf("%s-%d-%d", c.policy.CatchUp, c.policy.CatchUpMax, int(c.policy.CatchUpWindow.Seconds()))
		// Every minute, at a second at which nothing is just due.
		start := time.Now().UTC().AddDate(0, 0, -40).Add(-30 * time.Second).Truncate(time.Second)
		c.policy.Start = &start
		s := roomtest.CreateWith(t, env, name, "@every 1m", c.policy)
		since := time.Now().AddDate(0, 0, -30)
		missedSince(t, env, s, since)
		table, err := env.Schedules.Timetable(ctx, s)
		require.NoError(t, err)
		require.Equal(t, 1, pass(t, env))
		list, _, err := env.Schedules.Occurrences(ctx, s.ID, jobs.Page{Limit: 1000})
		require.NoError(t, err)
		answered, fired := 0, 0
		for _, o := range list {
			answered += o.Count
			if o.Outcome == schedule.Fired {
				fired++
			}
			require.Equal(t, o.Count, table.Count(o.NominalAt.Add(-time.Second), o.LastAt), "%s: %+v", name, o)
		}
		require.Equal(t, c.jobs, fired, name)
		require.Equal(t, table.Count(since, time.Now()), answered, "%s: every occurrence has an answer: %s", name, outcomes(t, env, s))
		require.Equal(t, c.jobs, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE metadata->>'schedule' = $1`, name))
	}
}

// A daily one, nobody's for three days: as the policy says, with a row for each.
func TestCatchUpDaily(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for policy, want := range map[string]string{
		"none":   "missed_window 3",
		"latest": "coalesced 2, fired 1",
		"all":    "fired 1, fired 1, fired 1",
	} {
		hour := time.Now().In(paris(t)).Add(-3 * time.Hour).Hour()
		s := roomtest.CreateWith(t, env, policy, fmt.Sprintf("0 %d * * *", hour), schedule.Policy{CatchUp: schedule.CatchUp(policy)})
		missedSince(t, env, s, time.Now().AddDate(0, 0, -3))
		require.Equal(t, 1, pass(t, env))
		require.Equal(t, want, outcomes(t, env, s), policy)
		require.Zero(t, pass(t, env), "nothing is left")
	}
}

func paris(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Paris")
	require.NoError(t, err)
	return zone
}

// dueNow makes an occurrence of a minutely schedule due.
func dueNow(t *testing.T, env *jobstest.Env, s schedule.Schedule, ago time.Duration) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `
UPDATE headgate.schedules SET next_nominal_at = clock_timestamp() - $2::interval, next_run_at = clock_timestamp() - $2::interval WHERE id = $1`, s.ID, ago)
	require.NoError(t, err)
}

// finish ends the oldest unfinished job of a schedule as a worker would.
func finish(t *testing.T, env *jobstest.Env, schedule string) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `
UPDATE river_job SET state = 'completed', finalized_at = now()
WHERE id = (SELECT min(id) FROM river_job WHERE metadata->>'schedule' = $1 AND finalized_at IS NULL)`, schedule)
	require.NoError(t, err)
}

func jobsOf(t *testing.T, env *jobstest.Env, schedule string) int {
	t.Helper()
	return roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE metadata->>'schedule' = $1`, schedule)
}

// Each overlap policy, while the run before has not ended: three occurrences, then
// its end.
func TestOverlapPolicies(t *testing.T) {
	t.Parallel()
	const soon = 2 * time.Second
	for policy, want := range map[schedule.Overlap]struct {
		jobs, waiting, after int
		outcomes             string
	}{
		"skip":       {1, 0, 1, "fired 1, skipped_overlap 1, skipped_overlap 1"},
		"buffer_one": {1, 1, 2, "fired 1, fired 1, skipped_overlap 1"},
		"buffer_all": {1, 2, 2, "fired 1, fired 1"},
		"cancel":     {2, 0, 2, "fired 1, skipped_overlap 1, fired 1"},
		"allow":      {3, 0, 3, "fired 1, fired 1, fired 1"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			s := roomtest.CreateWith(t, env, strings.ReplaceAll(string(policy), "_", "-"), "0 0 1 1 *", schedule.Policy{Overlap: policy})
			for range 3 {
				dueNow(t, env, s, soon)
				require.Equal(t, 1, pass(t, env))
			}
			got, err := env.Schedules.Get(context.Background(), of("acme", s.Name))
			require.NoError(t, err)
			require.Equal(t, want.waiting, got.Waiting)
			require.Equal(t, want.jobs, jobsOf(t, env, s.Name))
			if policy == "cancel" {
				require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE state = 'cancelled'`))
			} else {
				finish(t, env, s.Name)
			}
			if want.waiting > 0 {
				_, err = env.Pool.Exec(context.Background(), `UPDATE headgate.schedules SET next_run_at = clock_timestamp()`) // do not wait for the second
				require.NoError(t, err)
				require.Equal(t, 1, pass(t, env))
			}
			require.Equal(t, want.after, jobsOf(t, env, s.Name))
			require.Equal(t, want.outcomes, outcomes(t, env, s))
		})
	}
}

// The buffer is bounded.
func TestBufferIsBounded(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	s := roomtest.CreateWith(t, env, "busy", "0 0 1 1 *", schedule.Policy{Overlap: "buffer_all", BufferMax: 2})
	for range 5 {
		dueNow(t, env, s, time.Second)
		pass(t, env)
	}
	require.Equal(t, "fired 1, skipped_overlap 1, skipped_overlap 1", outcomes(t, env, s))
	got, err := env.Schedules.Get(context.Background(), of("acme", "busy"))
	require.NoError(t, err)
	require.Equal(t, 2, got.Waiting)
}

// A schedule pauses itself after N failures in a row, and a pause with an end ends.
func TestPauseAfterFailuresAndUntil(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "fails", "0 0 1 1 *", schedule.Policy{PauseAfter: 2})
	fail := func(state string) {
		dueNow(t, env, s, time.Second)
		require.Equal(t, 1, pass(t, env))
		_, err := env.Pool.Exec(ctx, `
WITH j AS (UPDATE river_job SET state = 'discarded', finalized_at = now() WHERE finalized_at IS NULL RETURNING id, kind, (metadata->>'job_uid')::uuid AS uid)
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), uid, id, kind, 1, $1, now(), now() FROM j`, state)
		require.NoError(t, err)
	}
	fail("discarded")
	fail("succeeded")
	fail("discarded")
	fail("discarded")
	dueNow(t, env, s, time.Second)
	require.Equal(t, 1, pass(t, env))
	got, err := env.Schedules.Get(ctx, of("acme", "fails"))
	require.NoError(t, err)
	require.True(t, got.Paused)
	require.Equal(t, "paused by itself: its last 2 jobs have failed", got.PausedNote)
	require.Equal(t, "scheduler", got.PausedBy)
	require.Equal(t, "fired 1, fired 1, fired 1, fired 1, skipped_paused 1", outcomes(t, env, s))

	require.NoError(t, env.Schedules.Resume(ctx, of("acme", "fails"), "ines"))
	dueNow(t, env, s, time.Second)
	pass(t, env)
	require.Equal(t, 5, jobsOf(t, env, "fails"), "older failures do not count")

	h := roomtest.CreateWith(t, env, "hourly", "0 * * * *", schedule.Policy{})
	require.ErrorContains(t, env.Schedules.Pause(ctx, of("acme", "hourly"), &schedule.PauseOpts{Until: time.Now().Add(-time.Hour)}), "is past")
	require.NoError(t, env.Schedules.Pause(ctx, of("acme", "hourly"), &schedule.PauseOpts{Note: "audit", Until: time.Now().Add(time.Hour), Actor: "ines"}))
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.schedules SET next_run_at = now() - interval '1 minute' WHERE name = 'hourly'`)
	require.NoError(t, err)
	pass(t, env)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE name = 'hourly' AND paused AND next_run_at = paused_until`), "a row that was moved by hand waits for the pause's end")
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.schedules SET answered_at = now() - interval '5 hours', paused_until = now() - interval '1 minute', next_run_at = now() - interval '1 minute' WHERE name = 'hourly'`)
	require.NoError(t, err)
	for pass(t, env) > 0 {
	}
	got, err = env.Schedules.Get(ctx, of("acme", "hourly"))
	require.NoError(t, err)
	require.False(t, got.Paused)
	require.True(t, got.NextRunAt.After(time.Now()))
	require.Contains(t, outcomes(t, env, h), "skipped_paused ")
	changes, _, err := env.Schedules.Changes(ctx, h.ID, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []string{"resume", "edit", "pause", "create"}, []string{changes[0].Action, changes[1].Action, changes[2].Action, changes[3].Action}, "the edit is the statement above")
	require.Equal(t, "scheduler", changes[0].Actor)
	require.Equal(t, "ines", changes[2].Actor, "who paused it")
}

// An occurrence that its calendar has excluded since it was due is not fired.
func TestACalendarThatHasChangedSinceCounts(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	day := func(in int) string { return time.Now().UTC().AddDate(0, 0, in).Format(time.DateOnly) }
	require.NoError(t, env.Schedules.Calendars.Set(ctx, "closed", []calendar.DayRange{{From: day(300), To: day(301)}}))
	s := roomtest.CreateWith(t, env, "hourly", "0 * * * *", schedule.Policy{Calendars: []string{"closed"}})
	_, err := env.Pool.Exec(ctx, `
UPDATE headgate.schedules SET answered_at = date_trunc('hour', now()) - interval '30 minutes', next_nominal_at = date_trunc('hour', now()), next_run_at = now() - interval '1 second' WHERE id = $1`, s.ID)
	require.NoError(t, err)
	require.NoError(t, env.Schedules.Calendars.Set(ctx, "closed", []calendar.DayRange{{From: day(-1), To: day(1)}}))
	pass(t, env)
	require.Zero(t, jobsOf(t, env, "hourly"))
	require.Contains(t, outcomes(t, env, s), "skipped_excluded")
}

// A kind or arguments that no longer fit mark the schedule; others go on.
func TestABadKindAfterADeploy(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	good, bad := roomtest.CreateWith(t, env, "good", "@daily", schedule.Policy{}), roomtest.CreateWith(t, env, "bad", "@daily", schedule.Policy{})
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.schedules SET kind = 'gone' WHERE name = 'bad'`)
	require.NoError(t, err)
	makeDue(t, env)
	store, err := schedule.New(schedule.Config{Pool: env.Pool, Catalog: env.Catalog, Logger: env.Log, Check: func(kind string, _ []byte) error {
		if kind == "gone" {
			return fmt.Errorf("kind %q is unknown to this version", kind)
		}
		return nil
	}})
	require.NoError(t, err)
	s := schedule.NewScheduler(store, schedule.SchedulerConfig{})
	n, _, err := s.RunOnce(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, "fired 1", outcomes(t, env, good))
	require.Equal(t, "failed_to_enqueue 1", outcomes(t, env, bad))
	got, err := env.Schedules.Get(ctx, of("acme", "bad"))
	require.NoError(t, err)
	require.Equal(t, `kind "gone" is unknown to this version`, got.Error)
	require.Nil(t, got.NextRunAt)

	edited, err := env.Schedules.Edit(ctx, of("acme", "bad"), schedule.Edit{Args: roomtest.Note{Text: "now it fits"}})
	require.NoError(t, err)
	require.Empty(t, edited.Error)
	require.NotNil(t, edited.NextRunAt)
	require.Equal(t, 2, edited.Version)
}

func TestTriggerAndBackfill(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{})
	before, err := env.Schedules.Get(ctx, of("acme", "nightly"))
	require.NoError(t, err)
	first, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), &schedule.TriggerOpts{Actor: "ines"})
	require.NoError(t, err)
	require.NotEmpty(t, first.UID)
	_, err = env.Schedules.Trigger(ctx, of("acme", "nightly"), nil)
	require.ErrorIs(t, err, schedule.ErrConflict)
	require.ErrorContains(t, err, first.UID)
	waits, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), &schedule.TriggerOpts{Overlap: "buffer_one"})
	require.NoError(t, err)
	require.True(t, waits.Waiting)
	finish(t, env, "nightly")
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.schedules SET next_run_at = clock_timestamp()`)
	require.NoError(t, err)
	require.Equal(t, 1, pass(t, env))
	require.Equal(t, 2, jobsOf(t, env, "nightly"))
	after, err := env.Schedules.Get(ctx, of("acme", "nightly"))
	require.NoError(t, err)
	require.Equal(t, before.NextRunAt, after.NextRunAt, "its own times stay")

	params := schedule.BackfillParams{From: time.Now().AddDate(0, 0, -10), To: time.Now(), DryRun: true}
	dry, err := env.Schedules.Backfill(ctx, of("acme", "nightly"), params)
	require.NoError(t, err)
	require.Equal(t, 10, dry.Occurrences)
	require.Equal(t, 10, dry.Jobs)
	require.Equal(t, 2, jobsOf(t, env, "nightly"))
	params.DryRun, params.Max = false, 5
	_, err = env.Schedules.Backfill(ctx, of("acme", "nightly"), params)
	require.ErrorContains(t, err, `max "5": the range holds 10 occurrences`)
	params.Max = 0
	done, err := env.Schedules.Backfill(ctx, of("acme", "nightly"), params)
	require.NoError(t, err)
	require.Equal(t, 10, done.Jobs)
	require.Equal(t, 12, jobsOf(t, env, "nightly"))
	again, err := env.Schedules.Backfill(ctx, of("acme", "nightly"), params)
	require.NoError(t, err)
	require.Equal(t, 10, again.Again)
	require.Zero(t, again.Jobs)
	params.To = time.Now().Add(time.Hour)
	_, err = env.Schedules.Backfill(ctx, of("acme", "nightly"), params)
	require.ErrorContains(t, err, "lies ahead")

	// One after the other.
	one := roomtest.CreateWith(t, env, "queue", "0 4 * * *", schedule.Policy{})
	result, err := env.Schedules.Backfill(ctx, of("acme", "queue"), schedule.BackfillParams{From: time.Now().AddDate(0, 0, -3), To: time.Now(), Overlap: "buffer_all"})
	require.NoError(t, err)
	require.Equal(t, 1, result.Jobs)
	require.Equal(t, 2, result.Waiting)
	for range 2 {
		finish(t, env, "queue")
		_, err = env.Pool.Exec(ctx, `UPDATE headgate.schedules SET next_run_at = clock_timestamp() WHERE name = 'queue'`)
		require.NoError(t, err)
		require.Equal(t, 1, pass(t, env))
	}
	require.Equal(t, "fired 1, fired 1, fired 1", outcomes(t, env, one))
	require.Equal(t, 3, roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences WHERE schedule_id = $1 AND origin = 'backfill'`, one.ID))
	_ = s

	require.NoError(t, env.Catalog.SetStatus(ctx, "acme", "suspended"))
	_, err = env.Schedules.Trigger(ctx, of("acme", "nightly"), nil)
	require.ErrorIs(t, err, jobs.ErrTenantSuspended)
}

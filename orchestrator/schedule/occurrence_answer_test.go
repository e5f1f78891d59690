package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Why answers for every time: what fired, what did not and for what reason, what is
// to come, and what is no time of the schedule.
func TestWhy(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	require.NoError(t, env.Schedules.Calendars.Set(ctx, "holidays", []calendar.DayRange{{From: "2026-03-10", Note: "a feast"}}))
	s, err := env.Schedules.Create(ctx, schedule.Params{
		Tenant: "acme", Name: "nightly", Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "30 2 * * *", Zone: "America/New_York", Policy: schedule.Policy{Gap: "skip", CatchUp: "latest", Calendars: []string{"holidays"}}},
	})
	require.NoError(t, err)
	since := time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)
	missedSince(t, env, s, since)
	require.Equal(t, 1, pass(t, env))
	why := func(wall string) schedule.OccurrenceAnswer {
		at, err := time.Parse("2006-01-02 15:04", wall)
		require.NoError(t, err)
		answers, err := env.Schedules.Why(ctx, of("acme", "nightly"), at)
		require.NoError(t, err)
		require.Len(t, answers, 1)
		return answers[0]
	}
	require.Equal(t, "coalesced", why("2026-03-07 02:30").Answer)
	require.Equal(t, "skipped_dst", why("2026-03-08 02:30").Answer)
	require.Contains(t, why("2026-03-08 02:30").Because, "does not exist on")
	require.Equal(t, "coalesced", why("2026-03-09 02:30").Answer)
	require.Equal(t, "skipped_excluded", why("2026-03-10 02:30").Answer)
	require.Contains(t, why("2026-03-10 02:30").Because, "calendar holidays (a feast)")
	require.Equal(t, "no_occurrence", why("2026-03-09 02:31").Answer)
	require.Contains(t, why("2026-03-09 02:31").Because, "every day at 02:30 (America/New_York)")
	require.Equal(t, "ahead", why(time.Now().AddDate(0, 0, 3).Format("2006-01-02")+" 02:30").Answer)
	require.Equal(t, "unknown", why("2026-03-06 02:30").Answer)
	list, _, err := env.Schedules.Occurrences(ctx, s.ID, jobs.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, schedule.Fired, list[0].Outcome)
	zone, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	fired := why(list[0].NominalAt.In(zone).Format("2006-01-02 15:04"))
	require.Equal(t, "fired", fired.Answer)
	require.Contains(t, fired.Because, "headgate job show "+list[0].JobUID)

	require.NoError(t, env.Schedules.Pause(ctx, of("acme", "nightly"), &schedule.PauseOpts{Note: "audit", Actor: "ines"}))
	_, err = env.Pool.Exec(ctx, `
WITH gone AS (DELETE FROM headgate.occurrences)
UPDATE headgate.schedules SET paused_at = now() - interval '2 days', answered_at = now() - interval '2 days'`)
	require.NoError(t, err)
	paused := why(time.Now().In(zone).AddDate(0, 0, -1).Format("2006-01-02") + " 02:30")
	require.Equal(t, "paused", paused.Answer)
	require.Contains(t, paused.Because, "by ines: audit")

	require.ErrorIs(t, env.Schedules.Calendars.Delete(ctx, "holidays"), schedule.ErrConflict)
	require.NoError(t, env.Schedules.Delete(ctx, of("acme", "nightly"), "ines"))
	require.NoError(t, env.Schedules.Calendars.Delete(ctx, "holidays"))
	_, err = env.Schedules.Get(ctx, of("acme", "nightly"))
	require.ErrorIs(t, err, schedule.ErrUnknown)
}

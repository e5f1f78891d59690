package schedule_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Two hundred edits race two hundred firings: whoever has been told that the edit
// is done sees no job with the old arguments afterwards, and none fires twice.
func TestEditsRaceFirings(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "raced", "0 0 1 1 *", schedule.Policy{Overlap: "allow"})
	scheduler := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	for n := range 200 {
		dueNow(t, env, s, time.Second)
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, _, err := scheduler.RunOnce(ctx); err != nil {
				t.Errorf("firing: %v", err)
			}
		}()
		_, err := env.Schedules.Edit(ctx, of("acme", "raced"), schedule.Edit{Args: roomtest.Note{Text: fmt.Sprint(n)}, Actor: "ines"})
		require.NoError(t, err)
		var highest int64
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM river_job`).Scan(&highest))
		wg.Wait()
		require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id > $1 AND args->>'text' <> $2`, highest, fmt.Sprint(n)),
			"a job with what the schedule was, after the edit was answered")
	}
	require.Equal(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`), roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences WHERE outcome = 'fired'`))
	require.Positive(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	got, err := env.Schedules.Get(ctx, of("acme", "raced"))
	require.NoError(t, err)
	require.Equal(t, 201, got.Version)
	require.Equal(t, 201, roomtest.Count(t, env, `SELECT count(*) FROM headgate.audit WHERE object = 'schedule' AND key = $1`, s.ID))
	_, err = env.Schedules.Edit(ctx, of("acme", "raced"), schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "@daily"}, Version: 5})
	require.ErrorIs(t, err, schedule.ErrConflict)
}

// The database's clock is set forward by a day and back again, with a process whose
// clock goes along (its skew is allowed): nothing is doubled, and what the jump went
// over is caught up with once.
func TestTheClockIsSetForwardAndBack(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	roomtest.CreateWith(t, env, "hourly", "0 * * * *", schedule.Policy{Overlap: "allow"})
	roomtest.ShadowClock(t, env)
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{MaxSkew: 1000 * time.Hour})
	set := func(by string) {
		_, err := env.Pool.Exec(ctx, `UPDATE skew.clock SET by = $1::text::interval`, by)
		require.NoError(t, err)
		for {
			n, _, err := s.RunOnce(ctx)
			require.NoError(t, err)
			if n == 0 {
				return
			}
		}
	}
	fired := func() int { return roomtest.Count(t, env, `SELECT count(*) FROM river_job`) }
	for range 3 {
		before := fired()
		set("1 day")
		require.LessOrEqual(t, fired(), before+1, "a day missed is made up for once")
		set("-1 day")
		set("0")
	}
	require.Equal(t, 1, fired(), "the same day a second and a third time is not fired again")
	set("25 hours")
	require.Equal(t, 2, fired())
	require.Equal(t, fired(), roomtest.Count(t, env, `SELECT count(DISTINCT metadata->>'nominal') FROM river_job`))

	// Pausing, resuming and editing with the clock set back answer nothing twice.
	set("0")
	require.NoError(t, env.Schedules.Pause(ctx, of("acme", "hourly"), nil))
	require.NoError(t, env.Schedules.Resume(ctx, of("acme", "hourly"), ""))
	_, err := env.Schedules.Edit(ctx, of("acme", "hourly"), schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "0 */1 * * *"}})
	require.NoError(t, err)
	got, err := env.Schedules.Get(ctx, of("acme", "hourly"))
	require.NoError(t, err)
	require.True(t, got.Nominal.After(time.Now().Add(23*time.Hour)), got.Nominal)
}

// An occurrence that waits for its place in the spread outlives an edit that
// changes other things, and keeps its nominal time.
func TestEditInTheSpread(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	var s schedule.Schedule
	for n := 0; s.DelaySeconds < 60; n++ {
		s = roomtest.CreateWith(t, env, fmt.Sprintf("spread-%d", n), "* * * * *", schedule.Policy{Spread: time.Hour})
	}
	nominal := time.Now().UTC().Truncate(time.Minute)
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.schedules SET next_nominal_at = $2, next_run_at = $3, answered_at = $2::timestamptz - interval '1 second' WHERE id = $1`, s.ID, nominal, nominal.Add(time.Duration(s.DelaySeconds)*time.Second))
	require.NoError(t, err)
	edited, err := env.Schedules.Edit(ctx, of("acme", s.Name), schedule.Edit{Args: roomtest.Note{Text: "new"}})
	require.NoError(t, err)
	require.Equal(t, nominal, *edited.Nominal)
	require.Equal(t, nominal.Add(time.Duration(s.DelaySeconds)*time.Second), edited.NextRunAt.UTC())
}

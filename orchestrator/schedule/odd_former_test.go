package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// What a schedule in error could not fire is not made up for when its tenant's zone sets
// it going again, its own and a selector's.
func TestAnErrorIsNotMadeUpForByANewZone(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	asks := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	all := schedule.Policy{CatchUp: schedule.CatchUpAll}
	_, err := env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: "own", Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "0 * * * *", Policy: all}})
	require.NoError(t, err)
	_, err = env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "selectors", Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "0 * * * *", Policy: all}})
	require.NoError(t, err)
	pass := func() {
		for range 4 {
			_, _, err := asks.RunOnce(ctx)
			require.NoError(t, err)
		}
	}
	pass()
	roomtest.Do(t, env, `
UPDATE headgate.schedules SET error = 'refused', next_run_at = NULL, answered_at = date_trunc('hour', now()) - interval '5 hours', next_nominal_at = date_trunc('hour', now()) - interval '4 hours'`)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET timezone = 'Asia/Tokyo'`)
	pass()
	for _, name := range []string{"own", "selectors"} {
		s, err := env.Schedules.Get(ctx, of("acme", name))
		require.NoError(t, err)
		require.Empty(t, s.Error)
		require.Equal(t, "failed_to_enqueue 1", outcomes(t, env, s), name)
		require.True(t, s.Nominal.After(time.Now()))
	}

	// An edit answers each of them, and goes on from now.
	roomtest.Do(t, env, `
UPDATE headgate.schedules SET error = 'refused', next_run_at = NULL, answered_at = date_trunc('hour', now()) - interval '5 hours', next_nominal_at = date_trunc('hour', now()) - interval '4 hours' WHERE name = 'own'`)
	roomtest.Do(t, env, `DELETE FROM headgate.occurrences`)
	s, err := env.Schedules.Edit(ctx, of("acme", "own"), schedule.Edit{Fields: []string{"zone"}, Spec: schedule.Spec{Zone: "UTC"}})
	require.NoError(t, err)
	pass()
	require.Equal(t, "failed_to_enqueue 5", outcomes(t, env, s))
}

// Former times that somebody has written past us stop their schedule alone, and a command
// sets it going again.
func TestOddFormerTimesStopTheirOwnScheduleOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	odd, good := roomtest.CreateWith(t, env, "odd", "0 3 * * *", schedule.Policy{}), roomtest.CreateWith(t, env, "good", "0 3 * * *", schedule.Policy{})
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.schedules SET former = '{}' WHERE id = $1`, odd.ID)
	require.ErrorContains(t, err, "schedules_former_check")
	roomtest.Do(t, env, `UPDATE headgate.schedules SET former = '[{"at": "x"}]' WHERE id = $1`, odd.ID)
	makeDue(t, env)
	_, _, err = schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{}).RunOnce(ctx)
	require.NoError(t, err)
	require.Contains(t, outcomes(t, env, good), "fired")
	require.NoError(t, env.Schedules.Resume(ctx, of("acme", "odd"), "ines"))
	s, err := env.Schedules.Get(ctx, of("acme", "odd"))
	require.NoError(t, err)
	require.Empty(t, s.Error)
	require.True(t, s.NextRunAt.After(time.Now()))
	require.NoError(t, env.Schedules.Delete(ctx, of("acme", "odd"), ""))
}

// One request triggers once, whatever is edited in between.
func TestARequestTriggersOnceThoughTheKindChanges(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{Overlap: schedule.OverlapAllow})
	opts := &schedule.TriggerOpts{Request: uuid.NewString()}
	first, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), opts)
	require.NoError(t, err)
	_, err = env.Schedules.Edit(ctx, of("acme", "nightly"), schedule.Edit{Args: Bill{Month: "2026-12"}})
	require.NoError(t, err)
	again, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), opts)
	require.NoError(t, err)
	require.True(t, again.Again)
	require.Equal(t, first.UID, again.UID)
	require.EqualValues(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// A schedule that ends with the last year that can be written is edited in any zone.
func TestTheLastYearIsKeptInTheRow(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.Do(t, env, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Europe/Berlin'); END $$`)
	env.Pool.Reset()
	end := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{End: &end})
	require.NoError(t, env.Schedules.Pause(ctx, of("acme", "nightly"), nil))
	for _, zone := range []string{"UTC", "Asia/Tokyo"} {
		_, err := env.Schedules.Edit(ctx, of("acme", "nightly"), schedule.Edit{Fields: []string{"zone"}, Spec: schedule.Spec{Zone: zone}})
		require.NoError(t, err)
	}
	require.NoError(t, env.Schedules.Resume(ctx, of("acme", "nightly"), ""))
	require.NoError(t, env.Schedules.Delete(ctx, of("acme", "nightly"), ""))
}

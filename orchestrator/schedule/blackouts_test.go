package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// A blackout of a tenant or of its server keeps starts back, in its own zone; a
// schedule for maintenance starts in its windows only, and not if most of its runs
// would overrun one.
func TestBlackoutsAndMaintenanceWindows(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	now := time.Now().In(paris(t))
	span := func(from, to time.Duration) string {
		return now.Add(from).Format("15:04") + "-" + now.Add(to).Format("15:04")
	}
	set := func(b schedule.Blackout) { require.NoError(t, env.Schedules.Calendars.SetBlackout(ctx, b)) }
	permit := func(w schedule.MaintenanceWindow) {
		require.NoError(t, env.Schedules.Calendars.SetMaintenanceWindow(ctx, w))
	}
	fire := func(s schedule.Schedule) string {
		_, err := env.Pool.Exec(ctx, `TRUNCATE headgate.occurrences`)
		require.NoError(t, err)
		dueNow(t, env, s, time.Second)
		require.Equal(t, 1, pass(t, env))
		list, _, err := env.Schedules.Occurrences(ctx, s.ID, jobs.Page{Limit: 1})
		require.NoError(t, err)
		return string(list[0].Outcome) + " " + list[0].Note
	}
	usual := roomtest.CreateWith(t, env, "usual", "0 0 1 1 *", schedule.Policy{Overlap: "allow"})
	upkeep := roomtest.CreateWith(t, env, "upkeep", "0 0 1 1 *", schedule.Policy{Overlap: "allow", Maintenance: true})

	set(schedule.Blackout{Name: "freeze", Tenant: "acme", Spans: []string{span(-time.Hour, time.Hour)}, Zone: "Europe/Paris", Note: "sale"})
	require.Equal(t, "skipped_excluded blackout freeze (sale)", fire(usual))
	slots, err := env.Schedules.Forecast(ctx, now, time.Hour/2)
	require.NoError(t, err)
	require.Empty(t, slots)
	set(schedule.Blackout{Name: "freeze", Tenant: "acme", Spans: []string{span(time.Hour, 2*time.Hour)}, Zone: "Europe/Paris"})
	require.Equal(t, "fired ", fire(usual))
	until := now.Add(-time.Minute)
	set(schedule.Blackout{Name: "freeze", Server: jobstest.Server, Spans: []string{"00:00-24:00"}, Until: &until})
	require.Equal(t, "fired ", fire(usual))
	set(schedule.Blackout{Name: "freeze", Server: jobstest.Server, Spans: []string{"00:00-24:00"}})
	require.Equal(t, "skipped_excluded blackout freeze", fire(usual))
	require.NoError(t, env.Schedules.Calendars.DeleteBlackout(ctx, "freeze"))
	require.ErrorIs(t, env.Schedules.Calendars.DeleteBlackout(ctx, "freeze"), schedule.ErrUnknownBlackout)

	require.Equal(t, "fired ", fire(upkeep), "without a window any time will do")
	permit(schedule.MaintenanceWindow{Name: "nights", Tenant: "acme", Spans: []string{span(2*time.Hour, 4*time.Hour)}, Zone: "Europe/Paris"})
	require.Equal(t, "skipped_excluded outside maintenance window nights", fire(upkeep))
	require.Equal(t, "fired ", fire(usual), "others are not held back by it")
	permit(schedule.MaintenanceWindow{Name: "nights", Tenant: "acme", Spans: []string{span(-time.Hour, 20*time.Minute)}, Zone: "Europe/Paris"})
	require.Equal(t, "fired ", fire(upkeep))
	_, err = env.Pool.Exec(ctx, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), gen_random_uuid(), i, 'note', 1, 'succeeded', now() - interval '31 minutes', now() - interval '1 minute' FROM generate_series(1, 20) i`)
	require.NoError(t, err)
	require.Equal(t, "fired ", fire(upkeep), "what the janitor has not measured yet is not known")
	_ = roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, "skipped_excluded outside maintenance window nights, or too near its end: most of its runs take up to 30m0s", fire(upkeep))
	all, err := env.Schedules.Calendars.MaintenanceWindows(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "acme", all[0].Tenant)

	none, err := env.Schedules.Calendars.Blackouts(ctx)
	require.NoError(t, err)
	require.Empty(t, none)
	require.ErrorIs(t, env.Schedules.Calendars.SetBlackout(ctx, schedule.Blackout{Name: "nights", Tenant: "acme", Spans: []string{"01:00-02:00"}}), schedule.ErrConflict, "what permits does not come to forbid")
	require.ErrorIs(t, env.Schedules.Calendars.DeleteBlackout(ctx, "nights"), schedule.ErrUnknownBlackout)

	for says, b := range map[string]schedule.Blackout{
		"give a tenant or a":        {Name: "n", Spans: []string{"01:00-02:00"}},
		"give 1 to 50 spans":        {Name: "n", Tenant: "acme"},
		"not a span of the day":     {Name: "n", Tenant: "acme", Spans: []string{"01:00"}},
		"unknown IANA time zone":    {Name: "n", Tenant: "acme", Spans: []string{"01:00-02:00"}, Zone: "Mars/Phobos"},
		"unknown tenant":            {Name: "n", Tenant: "nobody", Spans: []string{"01:00-02:00"}},
		`there is no server "mars"`: {Name: "n", Server: "mars", Spans: []string{"01:00-02:00"}},
	} {
		require.ErrorContains(t, env.Schedules.Calendars.SetBlackout(ctx, b), says)
	}
}

// An idle tick reads three pages of one index, whatever is stored.
func TestIdleTickPlan(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, next_run_at)
SELECT gen_random_uuid(), t.id, 's' || i, 'note', '0 3 * * *', 'UTC', now() + i * interval '1 second'
FROM headgate.tenants t, generate_series(1, 20000) i`)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `VACUUM ANALYZE headgate.schedules`)
	require.NoError(t, err)
	var plan []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	require.NoError(t, env.Pool.QueryRow(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+schedule.TickSQL).Scan(&plan))
	require.LessOrEqual(t, plan[0].Plan.Hit+plan[0].Plan.Read, 4)
}

package schedule_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// While the database's clock and ours disagree by hours, nothing fires and
// nothing is thrown away, whichever of the two is wrong.
func TestClocksThatDisagreeDecideNothing(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	create(t, env, "acme", "nightly", "@daily")
	makeDue(t, env)
	roomtest.ShadowClock(t, env)
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	j, err := retention.New(retention.Config{Pool: env.Pool, Selectors: env.Schedules.Templates, Logger: env.Log})
	require.NoError(t, err)
	for _, by := range []string{"2 hours", "-2 hours", "6 seconds"} {
		_, err := env.Pool.Exec(ctx, `UPDATE skew.clock SET by = $1::text::interval`, by)
		require.NoError(t, err)
		n, _, err := s.RunOnce(ctx)
		require.ErrorContains(t, err, "set the wrong one right")
		require.Zero(t, n)
		_, err = j.RunOnce(ctx)
		require.ErrorContains(t, err, "set the wrong one right")
	}
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	_, err = env.Pool.Exec(ctx, `UPDATE skew.clock SET by = '2 seconds'`)
	require.NoError(t, err)
	n, _, err := s.RunOnce(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

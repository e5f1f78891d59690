package orchestrator_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
)

// While the database's clock and ours disagree by hours, nothing fires and
// nothing is thrown away, whichever of the two is wrong.
func TestClocksThatDisagreeDecideNothing(t *testing.T) {
	t.Parallel()
	env := setupDirect(t)
	ctx := context.Background()
	create(t, env, "acme", "nightly", "@daily")
	makeDue(t, env)
	shadowClock(t, env)
	s := orchestrator.NewScheduler(env.Client, orchestrator.SchedulerConfig{})
	j, err := orchestrator.NewJanitor(env.Client, orchestrator.JanitorConfig{})
	require.NoError(t, err)
	for _, by := range []string{"2 hours", "-2 hours", "6 seconds"} {
		_, err := env.Pool.Exec(ctx, `UPDATE skew.clock SET by = $1::text::interval`, by)
		require.NoError(t, err)
		n, _, err := orchestrator.RunOnce(s, ctx)
		require.ErrorContains(t, err, "set the wrong one right")
		require.Zero(t, n)
		_, err = orchestrator.Sweep(j, ctx)
		require.ErrorContains(t, err, "set the wrong one right")
	}
	require.Zero(t, count(t, env, `SELECT count(*) FROM river_job`))
	_, err = env.Pool.Exec(ctx, `UPDATE skew.clock SET by = '2 seconds'`)
	require.NoError(t, err)
	n, _, err := orchestrator.RunOnce(s, ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// shadowClock puts a clock before the database's own that a test can set, by what
// stands in skew.clock.
func shadowClock(t *testing.T, env *jobstest.Env) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `
CREATE SCHEMA skew;
CREATE TABLE skew.clock (by interval NOT NULL);
INSERT INTO skew.clock VALUES ('0');
CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + by FROM skew.clock';
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = skew, pg_catalog, public', current_database()); END $$`)
	require.NoError(t, err)
	env.Pool.Reset() // a session has the path that it began with
}

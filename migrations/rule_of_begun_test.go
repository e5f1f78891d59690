package migrations_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// The rule whether Headgate began a job stands in four places, because the conditions of
// triggers may name no function that another client has no right on: it is one rule.
func TestWhoBeganAJobIsOneRule(t *testing.T) {
	t.Parallel()
	const rule = `'^([0-9a-f-]{36}:[0-9]+)?(:lost)?$'`
	var triggers, functions int
	require.NoError(t, jobstest.New(t).Pool.QueryRow(context.Background(), `
SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'river_job'::regclass AND tgname LIKE 'headgate_foreign%' AND position($1 IN pg_get_triggerdef(oid)) > 0),
       (SELECT count(*) FROM pg_proc WHERE pronamespace = 'headgate'::regnamespace AND position($1 IN prosrc) > 0)`, rule).Scan(&triggers, &functions))
	require.Equal(t, 3, triggers)
	require.Equal(t, 1, functions)
}

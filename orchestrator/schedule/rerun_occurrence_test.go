package schedule_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// A rerun of a schedule's occurrence is for the same nominal time; one of a
// job about a database is for that database.
func TestRerunKeepsWhatItIsFor(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	create(t, env, "acme", "nightly", "@daily")
	makeDue(t, env)
	require.Equal(t, 1, pass(t, env))
	var id int64
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT id FROM river_job`).Scan(&id))
	again, err := env.Client.Rerun(ctx, env.UIDOf(id), nil)
	require.NoError(t, err)
	require.Equal(t, 1, roomtest.Count(t, env, `
SELECT count(*) FROM river_job a JOIN river_job b ON a.metadata->>'nominal' = b.metadata->>'nominal' AND a.metadata->>'schedule' = b.metadata->>'schedule'
WHERE a.id = $1 AND b.id = $2`, id, env.RowOf(again.UID)))

	tidy, err := env.Client.EnqueueDatabase(ctx, "shared", roomtest.Tidy{}, nil)
	require.NoError(t, err)
	again, err = env.Client.Rerun(ctx, tidy.UID, nil)
	require.NoError(t, err)
	require.Equal(t, "shared", roomtest.JobOf(t, env, again.UID).Database)
	require.Empty(t, roomtest.JobOf(t, env, again.UID).Tenant)
}

package queue_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// The views say of jobs and workers what the client says.
func TestViewsSayWhatTheClientSays(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, state := range []string{"available", "scheduled", "running", "retryable", "pending", "completed", "cancelled", "discarded", "cancelling"} {
		job := roomtest.Enqueue(t, env)
		if state == "cancelling" {
			roomtest.RunUnder(t, env, env.RowOf(job.UID))
			_, err := env.Client.Cancel(ctx, job.UID, nil)
			require.NoError(t, err)
		} else {
			roomtest.PutInto(t, env, env.RowOf(job.UID), state)
		}
		var said jobs.State
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT state FROM headgate_api.jobs WHERE uid = $1`, job.UID).Scan(&said))
		require.Equal(t, roomtest.JobOf(t, env, job.UID).State, said, state)
	}
	for _, sql := range []string{"", "draining = true", "beat_at = now() - interval '1 hour'", "ended_at = now()", "reaped_at = now()"} {
		id := uuid.NewString()
		roomtest.Register(t, env, id, []string{"note"}, []string{"default"})
		if sql != "" {
			roomtest.Do(t, env, `UPDATE headgate.workers SET `+sql+` WHERE incarnation = $1`, id)
		}
	}
	all, _, err := env.Explain.Workers(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Len(t, all, 6)
	for _, w := range all {
		var said explain.WorkerState
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT state FROM headgate_api.workers WHERE incarnation = $1`, w.Incarnation).Scan(&said))
		require.Equal(t, w.State, said)
	}
}

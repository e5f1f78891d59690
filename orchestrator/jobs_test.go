package orchestrator_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// A state is asked for in our words. Another word, River's too, is refused with the list
// of ours, and not by Postgres.
func TestJobsTakesOurWordsOfAState(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	done, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "done"}, nil)
	require.NoError(t, err)
	_, err = env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "waits"}, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1`, env.RowOf(done.UID))
	require.NoError(t, err)
	found, _, err := env.Client.Jobs(ctx, jobs.JobFilter{State: jobs.Succeeded})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, done.UID, found[0].UID)
	require.Equal(t, jobs.Succeeded, found[0].State)
	for _, state := range jobs.States {
		_, _, err := env.Client.Jobs(ctx, jobs.JobFilter{State: state})
		require.NoError(t, err, state)
	}
	for _, word := range []jobs.State{"done", "completed", "available", "retryable", "pending"} {
		_, _, err = env.Client.Jobs(ctx, jobs.JobFilter{State: word})
		require.EqualError(t, err, `listing jobs: state "`+string(word)+`": give one of waiting, scheduled, running, cancelling, unconfirmed, succeeded, failed, snoozed, cancelled, discarded`)
	}
}

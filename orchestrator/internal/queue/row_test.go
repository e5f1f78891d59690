package queue_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// A job is found by its UID in whatever state it is, by indexes, however many have
// ended.
func TestAUIDIsFoundByIndexes(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	roomtest.FoundByUIDs(t, env, queue.SelectIDOfUIDSQL, roomtest.JobsAmongMany(t, env)[5])
}

// A UID is the 36 characters of a UUID; what stands around them is no part of it.
func TestWhatIsTakenForAUID(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	uid := roomtest.Enqueue(t, env).UID
	for _, text := range []string{uid, strings.ToUpper(uid), "{" + uid + "}", "urn:uuid:" + uid} {
		job, err := env.Client.Job(ctx, text)
		require.NoError(t, err, text)
		require.Equal(t, uid, job.UID)
	}
	for _, text := range []string{"", "{", "{}", "x" + uid + "y", " " + uid + "\n", "{" + uid, uid + "}", "{" + uid + "{", "}" + uid + "{", "{urn:uuid:" + uid + "}", "urn:uuid:{" + uid + "}",
		"urn:uuid:", "urn:uuie:" + uid, strings.ReplaceAll(uid, "-", "")} {
		_, err := env.Client.Job(ctx, text)
		require.ErrorAs(t, err, new(*jobs.InputError), "%q", text)
		require.ErrorContains(t, err, "give the job's UID")
	}
}

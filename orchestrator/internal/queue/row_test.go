package queue_test

import (
	"testing"

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

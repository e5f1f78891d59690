package queue

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// Each state comes back from the rows as it went there, but for the two that rows do not
// have as a word.
func TestStatesThereAndBack(t *testing.T) {
	t.Parallel()
	for _, state := range jobs.States {
		switch state {
		case jobs.Snoozed:
			require.Equal(t, jobs.Scheduled, StateOf(rowState(state)))
		case jobs.Cancelling: // metadata says it
		default:
			require.Equal(t, state, StateOf(rowState(state)))
		}
	}
	for _, word := range []string{"available", "scheduled", "running", "retryable", "completed", "cancelled", "discarded", "pending"} {
		require.Contains(t, jobs.States, StateOf(word))
		require.Equal(t, word, rowState(StateOf(word)))
	}
}

package telemetry

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A text passes once a minute and says how often it came meanwhile; few texts are remembered.
func TestRepeats(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	var r Repeats
	pass := func(text string) string {
		left, ok := r.Pass(text, at)
		return fmt.Sprint(left, ok)
	}
	require.Equal(t, "0 true", pass("a"))
	require.Equal(t, "0 false", pass("a"))
	require.Equal(t, "0 true", pass("b"))
	at = at.Add(repeatEvery - time.Second)
	require.Equal(t, "0 false", pass("a"))
	at = at.Add(time.Second)
	require.Equal(t, "2 true", pass("a"))
	require.Equal(t, "0 false", pass("a"))
	for i := range 10 * repeatTexts {
		require.Equal(t, "0 true", pass(fmt.Sprint(i)))
		require.LessOrEqual(t, len(r.said), repeatTexts)
	}
}

package guard_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/guard"
)

// What counts as the same transaction and the same context, value by value.
func TestWhatCountsAsTheSame(t *testing.T) {
	t.Parallel()
	const start, number = 0, 1
	before := guard.State{"s", "7", "role", "session", "off", "on", "1", "origin", "0", "0", "watched"}
	with := func(i int, value string) guard.State {
		s := slices.Clone(before)
		s[i] = value
		return s
	}
	require.NoError(t, guard.Compare(before, slices.Clone(before), "a.setting"))
	require.NoError(t, guard.Compare(with(number, ""), before, "a.setting"), "it has written since")
	for i := range before {
		var escaped *guard.EscapedError
		require.True(t, errors.As(guard.Compare(before, with(i, "other"), "a.setting"), &escaped), "column %d", i)
		require.Equal(t, i == start || i == number, escaped.Ended, "column %d", i)
		if !escaped.Ended {
			require.Len(t, escaped.Changed, 1, "column %d", i)
		}
	}
	var escaped *guard.EscapedError
	require.True(t, errors.As(guard.Compare(before, with(number, ""), "a.setting"), &escaped), "it had a number and has none")
	require.True(t, escaped.Ended)
	require.ErrorContains(t, guard.Compare(before, with(len(before)-1, "x"), "a.setting"), `a.setting was "watched" and is "x"`)
	require.False(t, before.Unguarded())
	require.True(t, with(7, "replica").Unguarded())
}

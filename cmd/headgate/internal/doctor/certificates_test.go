package doctor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEnding(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]string{
		-time.Second: StateFail, time.Second: StateWarn, 30*24*time.Hour - time.Second: StateWarn, 30 * 24 * time.Hour: StateOK,
	} {
		state, ok := ending(now.Add(after), now)
		require.Equal(t, want, state, "%s", after)
		require.Equal(t, want == StateOK, ok)
	}
}

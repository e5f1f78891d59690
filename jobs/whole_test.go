package jobs

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseWhole(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "8": 8, "10": 10, "9223372036854775807": 1<<63 - 1} {
		n, ok := ParseWhole(text)
		require.True(t, ok, text)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"", " ", "-0", "-5", "+5", "010", "00", "0x10", "0b1", "0o7", "1_000", "1,000", "1.0", "1e3", " 1", "1 ", "١", "9223372036854775808"} {
		_, ok := ParseWhole(text)
		require.False(t, ok, "%q", text)
	}
}

// A text is a whole number only in the one form that the number is written in.
func TestParseWholeIsTheInverseOfPrinting(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[-+_x0-9]{1,20}`).Draw(t, "text")
		if n, ok := ParseWhole(text); ok && (n < 0 || fmt.Sprint(n) != text) {
			t.Fatalf("%q is read as %d", text, n)
		}
	})
}

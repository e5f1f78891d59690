package jobs_test

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
)

type kindOf struct{ kind string }

func (k kindOf) Kind() string { return k.kind }

type works struct{ river.WorkerDefaults[kindOf] }

func (works) Work(context.Context, *river.Job[kindOf]) error { return nil }

// riverTakes asks River itself; its table takes 127 characters.
func riverTakes(kind string) bool {
	workers := river.NewWorkers()
	river.AddWorkerArgs(workers, kindOf{kind}, &works{})
	_, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Workers: workers})
	return err == nil && utf8.RuneCountInString(kind) < 128
}

// A kind that is accepted at enqueuing is one that a worker can register, and the
// other way round.
func TestKindsAreThoseOfRiver(t *testing.T) {
	t.Parallel()
	require.True(t, riverTakes("headgate.sql"))
	require.False(t, riverTakes("a b"))
	for _, kind := range []string{"c", ".x", "-x", "_x", "cc", "email:send", "a/b", "list[int]", "a·b", "1a", "", "ab\n", strings.Repeat("a", 127), strings.Repeat("a", 128)} {
		require.Equal(t, riverTakes(kind), jobs.CheckKind(kind) == nil, "%q", kind)
	}
	characters := rapid.RuneFrom([]rune(`abZ09_.-:/+<>[]·,;!'"\ ~ßéπ` + "\n\x00"))
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.StringOfN(characters, 0, 130, -1).Draw(t, "kind")
		require.Equal(t, riverTakes(kind), jobs.CheckKind(kind) == nil, "%q", kind)
	})
}

package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func linesIn(t *testing.T, text []byte) (lines []map[string]any) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var l map[string]any
		require.NoError(t, json.Unmarshal(line, &l))
		delete(l, "time")
		lines = append(lines, l)
	}
	return lines
}

// River's lines are in our words, once a minute each; ours are as they are.
func TestRiversLines(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	l := quiet(slog.New(slog.NewJSONHandler(&text, nil))).With("worker", "w")
	began := time.Now()
	say := func(after time.Duration, level slog.Level, msg string) {
		r := slog.NewRecord(began.Add(after), level, msg, 0)
		r.AddAttrs(slog.Any("err", errors.New("no route")))
		if l.Enabled(context.Background(), level) {
			require.NoError(t, l.Handler().Handle(context.Background(), r))
		}
	}
	for i := range 60 {
		say(time.Duration(i)*time.Second, slog.LevelError, "producer: Error fetching jobs")
	}
	say(61*time.Second, slog.LevelError, "producer: Error fetching jobs")
	say(0, slog.LevelWarn, "JobExecutor: job cancelled remotely")
	say(0, slog.LevelInfo, "Elector: Gained leadership")
	say(0, slog.LevelWarn, "Elector: Something that River says first in a later version")
	say(0, slog.LevelWarn, "could not end attempts: somebody has locked them")
	say(0, slog.LevelWarn, "could not end attempts: somebody has locked them")
	want := func(level, msg, key string) map[string]any {
		return map[string]any{"level": level, "msg": msg, "worker": "w", key: "no route"}
	}
	repeated := want("ERROR", "jobs could not be claimed; trying again", "error")
	repeated["repeated"] = 59.0
	require.Equal(t, []map[string]any{
		want("ERROR", "jobs could not be claimed; trying again", "error"),
		repeated,
		want("WARN", "River: Something that River says first in a later version", "error"),
		want("WARN", "could not end attempts: somebody has locked them", "err"),
		want("WARN", "could not end attempts: somebody has locked them", "err"),
	}, linesIn(t, text.Bytes()))
}

// Each line that we have words for is one of this River's.
func TestRiverSaysWhatWeTranslate(t *testing.T) {
	t.Parallel()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/riverqueue/river").Output()
	require.NoError(t, err)
	var source strings.Builder
	require.NoError(t, filepath.WalkDir(strings.TrimSpace(string(dir)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	}))
	for line := range riversWords {
		require.Contains(t, source.String(), `: `+line+`"`)
	}
}

// In each second a number of lines pass; the others are counted, and told when it is over.
func TestBounded(t *testing.T) {
	t.Parallel()
	told := make(chan int64, 10)
	b := newBounded(3, func(n int64) { told <- n })
	passed, leftOut := 0, int64(0)
	for range 100 {
		if b.allow() {
			passed++
		}
	}
	require.GreaterOrEqual(t, passed, 3)
	for leftOut < int64(100-passed) {
		select {
		case n := <-told:
			leftOut += n
		case <-time.After(time.Minute):
			t.Fatal("nobody is told")
		}
	}
	require.EqualValues(t, 100-passed, leftOut)
	none := newBounded(0, func(n int64) { told <- n })
	require.False(t, none.allow())
	none.flush()
	require.EqualValues(t, 1, <-told)
	none.flush()
	require.Empty(t, told)
}

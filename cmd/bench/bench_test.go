package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// Each measurement at its smallest: that it runs, that its JSON has the shape
// that programs read, that no figure is missing, and that it leaves nothing on a
// server that is not its own. It is no timed test.
func TestBenchSmoke(t *testing.T) {
	t.Parallel()
	for name, comparisons := range map[string]int{"drain": 4, "enqueue": 2, "pickup": 12, "tenant": 4, "fair": 16, "cold": 4, "telemetry": 16, "schedules": 6, "bloat": 4, "catalog": 36} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCLI(t, jobstest.ServerURL(t, "postgres"))
			if name == "enqueue" {
				c = bare(t) // brings its own
			}
			file := filepath.Join(t.TempDir(), "bench.json")
			out := c.ok(name, "-o", "json", "--pairs", "1", "--seconds", "0.05", "--databases", "2", "--slots", "8", "--schedules", "200", "--tenants", "2000", "--changed", "50", "--stored", "200", "--finished", "1000", "--pinned", "300ms", "--save", file)
			checkBench(t, name, comparisons, out)
			saved, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, out, string(saved))
		})
	}
}

func checkBench(t *testing.T, name string, comparisons int, out string) {
	t.Helper()
	var result map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	require.Equal(t, name, result["name"])
	require.NotEmpty(t, result["machine"])
	require.Contains(t, result["settings"], "fsync")
	all := result["comparisons"].([]any)
	require.Len(t, all, comparisons)
	for _, c := range all {
		c := c.(map[string]any)
		require.NotEmpty(t, c["what"])
		for _, field := range []string{
			"ours", "theirs", "ratio", "ratio_min", "ratio_max", "samples", "pairs",
			"cpu_us_go", "cpu_us_go_theirs",
		} {
			require.Positive(t, c[field], "%s of %s", field, c["what"])
		}
		for _, field := range []string{"cpu_us_postgres", "cpu_us_postgres_theirs"} {
			require.Contains(t, c, field) // the clock of /proc is too coarse for so little
		}
	}
}

func TestBenchBadInput(t *testing.T) {
	t.Parallel()
	c := bare(t)
	c.fails(cli.ExitUsage, []string{}, "NAME is missing")
	c.fails(cli.ExitUsage, []string{"drian"}, "is not one of drain, enqueue, pickup, tenant, fair, cold, telemetry, schedules, bloat, catalog, all", "did you mean drain?")
	c.fails(cli.ExitUsage, []string{"drain", "--pairs", "0"}, "--pairs: 0 does not fit, give 1 to 1000")
	c.fails(cli.ExitUsage, []string{"drain", "--seconds", "0"}, "--seconds: 0 does not fit")
	c.fails(cli.ExitUsage, []string{"drain", "--seconds", "NaN"}, "--seconds: NaN does not fit")
	c.fails(cli.ExitUsage, []string{"drain", "--seconds", "soon"}, "want a number")
	c.fails(cli.ExitUsage, []string{"tenant", "--databases", "-1"}, `--databases: "-1" does not fit`)
	c.fails(cli.ExitUsage, []string{"tenant", "--slots", "0"}, "--slots: 0 does not fit")
	c.with("DATABASE_URL", "nonsense").fails(cli.ExitUsage, []string{"drain"}, "DATABASE_URL is not a PostgreSQL connection string")
	c.with("DATABASE_URL", "postgres://u:p@127.0.0.1:1/x").fails(cli.ExitUnreachable, []string{"drain"}, "does not answer")
}

// The doors of cmd/bench let River in for one file only.
func TestOnlyBenchKnowsRiver(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imported := range parsed.Imports {
			if strings.Contains(imported.Path.Value, "riverqueue/river") && file != "river.go" {
				t.Errorf("%s imports %s: only river.go may", file, imported.Path.Value)
			}
		}
	}
}

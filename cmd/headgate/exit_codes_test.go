package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// exitFailed are the sentinels that have no exit code of their own, with the reason.
var exitFailed = map[string]string{
	"jobs.ErrUnguarded":                           "a job of a worker ends by it, and no command does",
	"jobs/lifecycle.ErrRunning":                   "a program calls Start twice",
	"orchestrator/catalog.ErrNotVerified":         "the look was done, and the answer is no",
	"orchestrator/catalog/tenanthttp.ErrMismatch": "of a web request",
	"worker.ErrStuck":                             "serve ends by it: finished, with failures",
	"worker/tenantdb.ErrClosed":                   "a process is closing its own connections",
}

// Whoever adds a sentinel says with which exit code a command ends by it.
func TestEverySentinelHasAnExitCode(t *testing.T) {
	t.Parallel()
	all, wrong := coded(t, sources(t))
	require.Empty(t, wrong)
	require.Greater(t, len(all), 50)
	path := filepath.Join("..", "internal", "cli", "exit.go")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Empty(t, withoutExitCode(t, slices.Sorted(maps.Keys(all)), string(text)))

	text = []byte(strings.Replace(string(text), "catalog.ErrUnknownRegion, ", "", 1))
	require.Equal(t, []string{"orchestrator/catalog.ErrUnknownRegion"}, withoutExitCode(t, slices.Sorted(maps.Keys(all)), string(text)), "the control")
}

// withoutExitCode are the sentinels that the text of exit.go does not name, and that have no
// reason to have no exit code; and the reasons of those that it names.
func withoutExitCode(t *testing.T, sentinels []string, exit string) (missing []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", exit, 0)
	require.NoError(t, err)
	rooms, named := map[string]string{}, map[string]bool{}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		rooms[path[strings.LastIndex(path, "/")+1:]] = strings.TrimPrefix(path, "github.com/headgate/headgate/")
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if selected, ok := node.(*ast.SelectorExpr); ok {
			if room, ok := selected.X.(*ast.Ident); ok {
				named[rooms[room.Name]+"."+selected.Sel.Name] = true
			}
		}
		return true
	})
	for _, sentinel := range sentinels {
		if (exitFailed[sentinel] == "") != named[sentinel] {
			missing = append(missing, sentinel)
		}
	}
	return missing
}

// What is not there ends with 3, and what is in a state that does not allow the change with 6,
// whichever noun it is.
func TestExitCodesAreTheSameForAllNouns(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	for _, unknown := range []string{
		"server remove none", "database remove none", "region remove none", "plan remove none", "feature remove none", "ca remove none",
		"tenant remove none --yes", "tenant erase none --yes", "tenant brand remove acme 7", "server set " + jobstest.Server + " --region none",
	} {
		c.fails(cli.ExitNotFound, strings.Fields(unknown), "unknown")
	}
	c.fails(cli.ExitConflict, []string{"tenant", "erase", "acme", "--yes"}, "removed")
}

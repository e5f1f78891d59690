package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	// oneOfMany is a count whose noun is wrong, or a verb of several beside one.
	oneOfMany = regexp.MustCompile(`(^|[^\w.,:/%-])1 (?:(?:(?:active|due|ended|further|living|lost|more|open|other|own|read|removed|sealed|tenant) )?(?:addresses|attempts|cells|checks|claims|columns|connections|databases|errors|files|findings|hosts|jobs|kinds|lines|occurrences|outcomes|parameters|queues|ranges|rights|rows|runs|schedules|servers|sessions|statements|tables|tenants|things|times|values|workers)|are|were|have)\b`)

	// written is a count that is written without jobs.Count, and of which 1 is possible:
	// bounds are named before their number.
	written = regexp.MustCompile(`"[^"]*%(?:\[\d+\])?d (?:[a-z]+ )?(?:addresses|cells|checks|connections|errors|findings|outcomes|rows|sessions|tables|tenants|workers)\b`)
	bounded = regexp.MustCompile(`(?:at most|more than|1 to|than the|beside the|of the|the rows of|The|the) %(?:\[\d+\])?d [a-z]+`)
)

// texts are the files below the project's root whose names end so, by their paths.
func texts(t *testing.T, below []string, ends ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range below {
		require.NoError(t, filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			for _, end := range ends {
				if strings.HasSuffix(path, end) {
					text, err := os.ReadFile(path)
					if err != nil {
						return err
					}
					found[path] = string(text)
				}
			}
			return nil
		}))
	}
	require.NotEmpty(t, found)
	return found
}

// What documents show, and what commands are known to print, has "1 tenant" and "2 tenants".
func TestOneThingIsNoPlural(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"takes 1 tenants", "1 sealed values", "(1 attempts begun)", "t: 1 are locked"} {
		require.Regexp(t, oneOfMany, wrong)
	}
	for _, right := range []string{"1 tenant", "1,001 tenants", "21 tenants", "0.1 rows", "--budget 1 and jobs", "brand 1 of another"} {
		require.NotRegexp(t, oneOfMany, right)
	}
	for path, text := range texts(t, []string{"docs", "deploy", "README.md", "CHANGELOG.md", "cmd", "orchestrator", "worker", "jobs"}, ".md", ".golden", ".yml", ".yaml") {
		for n, line := range strings.Split(text, "\n") {
			require.NotRegexp(t, oneOfMany, line, "%s:%d", path, n+1)
		}
	}
}

// Programs count with jobs.Count, which knows the noun's form.
func TestCountsAreWrittenByOneFunction(t *testing.T) {
	t.Parallel()
	for path, text := range texts(t, []string{"cmd/headgate", "cmd/internal", "orchestrator", "worker", "jobs"}, ".go") {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/jobstest/") || strings.Contains(path, "/roomtest/") {
			continue
		}
		for n, line := range strings.Split(text, "\n") {
			require.NotRegexp(t, written, bounded.ReplaceAllString(line, ""), "%s:%d: write the number with jobs.Count", path, n+1)
		}
	}
}

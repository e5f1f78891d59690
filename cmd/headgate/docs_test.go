package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
)

// Every test that the documents name as proof is there.
func TestProofsExist(t *testing.T) {
	t.Parallel()
	const root = "../.."
	exist := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, found := range testFunc.FindAllSubmatch(source, -1) {
			exist[string(found[1])] = true
		}
		return err
	}))
	named := 0
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	decisions, err := filepath.Glob(filepath.Join(root, "docs", "decisions", "*.md"))
	require.NoError(t, err)
	for _, doc := range slices.Concat(docs, decisions, []string{filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")}) {
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		for i, line := range strings.Split(string(text), "\n") {
			for _, found := range testName.FindAllStringSubmatch(line, -1) {
				require.True(t, exist[found[1]], "%s:%d names %s, which does not exist", doc, i+1, found[1])
				named++
			}
		}
	}
	require.Greater(t, named, 30)
}

// Every file that docs/security.md names as the place of a promise is there.
func TestPlacesOfPromisesExist(t *testing.T) {
	t.Parallel()
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	require.NoError(t, err)
	places := regexp.MustCompile("`((?:cmd|jobs|migrations|orchestrator|worker)/[^`]+)`").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(places), 20)
	for _, place := range places {
		require.FileExists(t, filepath.Join(root, place[1]))
	}
}

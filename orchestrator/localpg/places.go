//go:build unix

package localpg

import (
	"cmp"
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// usualPlaces are where packages put the binaries: Debian's, Red Hat's, a build
// from source, Homebrew's on both processors, Postgres.app, MacPorts.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/opt/local/lib/postgresql*/bin",
}

// fromConfig asks pg_config. Debian's names a directory that only the server's
// own package fills.
func (f *finder) fromConfig(ctx context.Context) []string {
	path := f.lookPath("pg_config")
	if path == "" {
		return nil
	}
	output, err := exec.CommandContext(ctx, path, "--bindir").Output()
	if err != nil {
		return nil
	}
	return []string{strings.TrimSpace(string(output))}
}

// fromPath follows the link behind an initdb on the PATH to its real directory,
// where postgres and the libraries lie beside it.
func (f *finder) fromPath(context.Context) []string {
	path := f.lookPath("initdb")
	if path == "" {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	return []string{filepath.Dir(real)}
}

// fromPlaces returns what lies in the usual places, the highest version first.
func (f *finder) fromPlaces(ctx context.Context) []string {
	majors := map[string]int{}
	var dirs []string
	for _, glob := range f.globs {
		found, _ := filepath.Glob(glob)
		for _, dir := range found {
			if !executable(filepath.Join(dir, "postgres")) {
				continue
			}
			majors[dir], _ = f.majorOf(ctx, dir) // 0 goes last, inspect says why
			dirs = append(dirs, dir)
		}
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(majors[b], majors[a]) })
	return dirs
}

// fromCache returns what was fetched earlier.
func (f *finder) fromCache(context.Context) []string {
	dir := f.fetchedBin()
	if dir == "" || !executable(filepath.Join(dir, "postgres")) {
		return nil
	}
	return []string{dir}
}

// lookPath is exec.LookPath over the finder's own environment.
func (f *finder) lookPath(name string) string {
	for _, dir := range filepath.SplitList(f.getenv("PATH")) {
		if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) {
			return path
		}
	}
	return ""
}

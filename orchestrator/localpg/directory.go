//go:build unix

package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// directory is where one server lives, locked for as long as it does:
//
//	lock       whose holder owns the rest
//	password   the superuser's, 0600; only where the data is kept
//	log        what the server says
//	data       the cluster
//	.s.PGSQL.* the socket, unless the path is too long for one
type directory struct {
	path      string
	temporary bool
	account   account
	socketDir string
	locks     []*os.File
	temps     []string // removed at the end
}

// entries may lie in a Dir that has no finished cluster yet: what an interrupted
// first start leaves, and what a fresh file system brings along.
var entries = []string{"lock", "password", "log", "log.old", "data.new", "lost+found"}

// openDirectory locks dir, or a fresh temporary one, in memory if that is wanted.
func openDirectory(ctx context.Context, dir string, memory bool, a account) (*directory, error) {
	d := &directory{path: dir, temporary: dir == "", account: a}
	var err error
	if d.temporary {
		d.path, err = d.addTemp(memory)
		d.socketDir = d.path
	} else {
		err = d.openKept(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *directory) addTemp(memory bool) (string, error) {
	path, lock, err := makeTemp(d.account, memory)
	if err == nil {
		d.temps = append(d.temps, path)
		d.locks = append(d.locks, lock)
	}
	return path, err
}

func (d *directory) openKept(ctx context.Context) error {
	if err := d.prepareKept(); err != nil {
		return fmt.Errorf("localpg: preparing %s: %w", d.path, err)
	}
	if err := awaitOrphan(ctx, d.data()); err != nil {
		return err
	}
	if err := d.rotateLog(); err != nil {
		return fmt.Errorf("localpg: preparing %s: %w", d.path, err)
	}
	d.socketDir = d.path
	if fitsSocket(d.path) {
		return nil
	}
	var err error
	d.socketDir, err = d.addTemp(false)
	return err
}

// prepareKept makes sure that the directory is there, ours alone, and holds
// nothing foreign.
func (d *directory) prepareKept() error {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.refuseForeign(); err != nil {
		return err
	}
	lock, err := lockIn(d.path)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("another headgate uses it: stop that one or name another directory: %w", err)
	}
	if err != nil {
		return err
	}
	d.locks = append(d.locks, lock)
	if err := errors.Join(signLock(lock), d.account.give(lock.Name()), os.RemoveAll(d.data()+".new")); err != nil {
		return err
	}
	if !d.initialized() {
		if err := errors.Join(d.account.give(d.path), os.Chmod(d.path, 0o700)); err != nil {
			return err
		}
	}
	return d.account.canEnter(d.path)
}

func (d *directory) refuseForeign() error {
	if d.initialized() {
		return nil
	}
	found, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, entry := range found {
		if !slices.Contains(entries, entry.Name()) {
			return fmt.Errorf("it holds %s and no data of ours: name a new or an empty directory", entry.Name())
		}
	}
	return nil
}

// rotateLog keeps the log of the run before this one, and no more.
func (d *directory) rotateLog() error {
	err := os.Rename(d.log(), d.log()+".old")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d *directory) data() string     { return filepath.Join(d.path, "data") }
func (d *directory) log() string      { return filepath.Join(d.path, "log") }
func (d *directory) password() string { return filepath.Join(d.path, "password") }

func (d *directory) initialized() bool { return clusterMajor(d.path) != "" }

// clusterMajor is the major version of the cluster in dir, "" if there is none
// or dir is "".
func clusterMajor(dir string) string {
	if dir == "" {
		return ""
	}
	version, err := os.ReadFile(filepath.Join(dir, "data", "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(version))
}

// close removes what is temporary and lets go of the rest. The server must be
// gone.
func (d *directory) close() error {
	var errs []error
	for _, path := range d.temps {
		errs = append(errs, os.RemoveAll(path))
	}
	for _, lock := range d.locks {
		errs = append(errs, lock.Close())
	}
	d.temps, d.locks = nil, nil
	return errors.Join(errs...)
}

// maxSocketPath is the room for a socket's path on the system with the least.
const maxSocketPath = 103

// fitsSocket says whether a socket in dir can be bound and named in a connection
// string, where a comma separates hosts.
func fitsSocket(dir string) bool {
	return len(filepath.Join(dir, ".s.PGSQL.65535")) <= maxSocketPath && !strings.ContainsAny(dir, `,"`)
}

//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the unix user that Postgres runs as. Postgres refuses root, so
// root lends its work to another one; everybody else runs it as themselves.
type account struct {
	name string
	uid  uint32
	gid  uint32
	lent bool // we are root and this is somebody else
}

// lentAccounts are tried in this order by root.
var lentAccounts = []string{"postgres", "_postgres", "nobody"}

// chooseAccount picks the account for the cluster in dir. A cluster that exists
// keeps its owner; dir may be "" or not there yet.
func chooseAccount(dir string) (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		return account{name: accountName(uint32(uid)), uid: uint32(uid), gid: uint32(os.Getegid())}, nil
	}
	if clusterMajor(dir) != "" {
		return ownerOf(dir)
	}
	for _, name := range lentAccounts {
		if found, err := user.Lookup(name); err == nil {
			return lendTo(found)
		}
	}
	return account{}, fmt.Errorf("localpg: Postgres refuses to run as root and none of the accounts %s exists: make one (useradd -r postgres) or start as another user",
		strings.Join(lentAccounts, ", "))
}

func lendTo(found *user.User) (account, error) {
	// Some systems write nobody's ids as -2.
	uid, err := strconv.ParseInt(found.Uid, 10, 64)
	gid, err2 := strconv.ParseInt(found.Gid, 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return account{}, fmt.Errorf("localpg: reading the ids of account %s: %w", found.Username, err)
	}
	return account{name: found.Username, uid: uint32(uid), gid: uint32(gid), lent: true}, nil
}

// ownerOf returns the account that the cluster in dir belongs to.
func ownerOf(dir string) (account, error) {
	info, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		return account{}, fmt.Errorf("localpg: looking for the owner of the data: %w", err)
	}
	uid, gid := ids(info)
	if uid == 0 {
		return account{}, fmt.Errorf("localpg: the data in %s belongs to root, which Postgres refuses: give it away with chown -R postgres %s", dir, dir)
	}
	return account{name: accountName(uid), uid: uid, gid: gid, lent: true}, nil
}

func accountName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if found, err := user.LookupId(number); err == nil {
		return found.Username
	}
	return "uid " + number
}

func ids(info fs.FileInfo) (uid, gid uint32) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid, stat.Gid
	}
	return 0, 0
}

// attributes of a process of this account: in a process group of its own, so
// that Ctrl-C in the terminal reaches this program only, which then stops
// Postgres in order.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.lent {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// give makes path the account's own, never what a link there points to: the
// directory around it may be the account's already.
func (a account) give(path string) error {
	if !a.lent {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// canEnter says why the account cannot reach dir, or nil. Only asked for a lent
// account: root sees directories, its own home first, that the other does not.
func (a account) canEnter(dir string) error {
	if !a.lent {
		return nil
	}
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !a.mayPass(info) {
			return fmt.Errorf("%s, the account that Postgres runs as, may not enter %s", a.name, path)
		}
		if path == filepath.Dir(path) {
			return nil
		}
		path = filepath.Dir(path)
	}
}

// mayPass reads the execute bit that counts for the account.
func (a account) mayPass(dir fs.FileInfo) bool {
	uid, gid := ids(dir)
	switch {
	case uid == a.uid:
		return dir.Mode()&0o100 != 0
	case gid == a.gid:
		return dir.Mode()&0o010 != 0
	default:
		return dir.Mode()&0o001 != 0
	}
}

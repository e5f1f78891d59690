// Package keyfile reads and replaces a file that holds secrets: a regular file that
// nobody but its owner may read or write. It knows nothing of what is in the file.
//
// A file is replaced whole: whoever reads it meanwhile gets the old text or the new
// one, and so does who reads it after a crash. The package refuses what it would be
// unsafe to replace: a symbolic link, another user's file, a file of a wider mode.
//
// Its weakness: who may write the directory can put another file in the place of this
// one. Nothing here judges the directory.
package keyfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// MaxSize is how many bytes a file may have.
const MaxSize = 64 << 10

// Read returns the text of a file, and the file as it was when it was read. It follows
// symbolic links, because that is how secrets are mounted, and it does not wait on a
// named pipe. No error holds any of the text.
func Read(file string) (text address.Secret, info fs.FileInfo, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator's own choice
	if err != nil {
		return address.Secret{}, nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return read(f)
}

// read judges what has been opened, so that nothing can be put in its place between
// the two.
func read(f *os.File) (text address.Secret, info fs.FileInfo, err error) {
	info, err = f.Stat()
	if err != nil {
		return address.Secret{}, nil, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return address.Secret{}, nil, fmt.Errorf("%s is not a regular file", f.Name())
	case mode.Perm()&^0o600 != 0:
		return address.Secret{}, nil, fmt.Errorf("%s has mode %#o; it must be 0600 or stricter: run chmod 600 %s", f.Name(), mode.Perm(), f.Name())
	case info.Size() > MaxSize:
		return address.Secret{}, nil, fmt.Errorf("%s is %d bytes long, too much for a key ring (at most %d)", f.Name(), info.Size(), MaxSize)
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxSize))
	return address.NewSecret(string(raw)), info, err
}

package keyfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Edit replaces the text of a file by what change makes of it. Of several at once one
// edits and the others are refused. An error of change, and every refusal, leaves the
// file as it was.
func Edit(file string, change func(address.Secret) (address.Secret, error)) error {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0) //nolint:gosec // the operator's own choice
	if errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("%s is a symbolic link: change the file that it leads to, by its own name, or where the secret is kept", file)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, _, err := read(f)
	if err != nil {
		return err
	}
	if err := own(f, os.Geteuid()); err != nil {
		return err
	}
	if text, err = change(text); err != nil {
		return err
	}
	return replace(file, text)
}

// own takes the file for us alone, and refuses a file that is not this user's or that is
// not at its path any more.
func own(f *os.File, user int) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { // the kernel drops it with the descriptor
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("another command is changing %s: run this one again", f.Name())
		}
		return fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if stat, ok := opened.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != user {
		return fmt.Errorf("%s belongs to user %d, and this process runs as %d: run the command as the file's owner", f.Name(), stat.Uid, user)
	}
	if there, err := os.Lstat(f.Name()); err != nil || !os.SameFile(opened, there) {
		return fmt.Errorf("another command has just changed %s: run this one again", f.Name())
	}
	return nil
}

// Append adds text to the end of a file, in the same way, and makes a file that is not
// there.
func Append(file string, text address.Secret) error {
	err := Edit(file, func(former address.Secret) (address.Secret, error) {
		return address.NewSecret(former.Reveal() + text.Reveal()), nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = replace(file, text)
	}
	return err
}

// replace puts a new file in the place of what is there: written and kept before its
// name counts, so that no crash leaves half of it.
func replace(file string, text address.Secret) (err error) {
	if len(text.Reveal()) > MaxSize {
		return fmt.Errorf("%s would be %d bytes long, too much for a key ring (at most %d)", file, len(text.Reveal()), MaxSize)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	fresh := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+"."+hex.EncodeToString(random[:]))
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // beside the operator's file
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(fresh) // it holds keys, and nobody needs it
		}
	}()
	_, err = f.WriteString(text.Reveal())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", fresh, err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// syncDir keeps a new name through a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the directory of the operator's file
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

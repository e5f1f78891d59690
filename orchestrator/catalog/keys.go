package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const (
	keyVariable     = "HEADGATE_KEY"
	keyFileVariable = "HEADGATE_KEY_FILE"

	howToMakeKey = `make one with: export HEADGATE_KEY="k1:$(openssl rand -base64 32)"`

	maxKeyFile = 64 << 10
)

// ErrNoKey says that there is no key to seal addresses with. Nothing starts
// without one, and none is made silently: who loses the key loses the addresses.
var ErrNoKey = jobs.Sentinel("no_key", "no key to seal addresses with: set HEADGATE_KEY, or HEADGATE_KEY_FILE to a file of mode 0600, "+
	"to the keys that this central database's addresses are sealed with; for a new one "+howToMakeKey+" and keep it")

// KeysFromEnv reads the key ring that the environment names; see LoadKeyRing.
func KeysFromEnv() (*KeyRing, error) { return LoadKeyRing(os.Getenv) }

// LoadKeyRing reads the key ring from HEADGATE_KEY (see NewKeyRing), or from the
// file that HEADGATE_KEY_FILE names: a regular file that nobody but its owner
// may read or write. env looks a variable up. With neither set the error is
// ErrNoKey; with both it says to choose one. No error holds key material.
func LoadKeyRing(env func(string) string) (*KeyRing, error) {
	text, file := env(keyVariable), env(keyFileVariable)
	switch {
	case strings.TrimSpace(text) != "" && file != "":
		return nil, jobs.AsInputError(keyFileVariable, fmt.Errorf("both %s and %s are set: unset one of them", keyVariable, keyFileVariable))
	case file != "":
		return ringFromFile(file)
	}
	ring, err := NewKeyRing(address.NewSecret(text))
	if err != nil && !errors.Is(err, ErrNoKey) {
		return nil, fmt.Errorf("%s: %w", keyVariable, err)
	}
	return ring, err
}

func ringFromFile(file string) (*KeyRing, error) {
	text, err := readPrivate(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFileVariable, err)
	}
	ring, err := NewKeyRing(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", keyFileVariable, file, err)
	}
	return ring, nil
}

// readPrivate reads a file after judging what it has opened, so that nothing
// can be put in its place between the two. It does not wait on a named pipe.
func readPrivate(file string) (address.Secret, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator's own choice
	if err != nil {
		return address.Secret{}, err
	}
	defer func() { _ = f.Close() }() // it was only read

	info, err := f.Stat()
	if err != nil {
		return address.Secret{}, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return address.Secret{}, fmt.Errorf("%s is not a regular file", file)
	case mode.Perm()&^0o600 != 0:
		return address.Secret{}, fmt.Errorf("%s has mode %#o; it must be 0600 or stricter: run chmod 600 %s", file, mode.Perm(), file)
	case info.Size() > maxKeyFile:
		return address.Secret{}, fmt.Errorf("%s is %d bytes long, too much for a key ring (at most %d)", file, info.Size(), maxKeyFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return address.NewSecret(string(text)), err
}

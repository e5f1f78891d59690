package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog/keyfile"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// The variables that give the key ring: as they are, or as the name of a file.
const (
	KeyVariable     = "HEADGATE_KEY"
	KeyFileVariable = "HEADGATE_KEY_FILE"
)

const howToMakeKey = `make one with: export HEADGATE_KEY="k1:$(openssl rand -base64 32)"`

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
	text, file, err := KeySource(env)
	if err != nil {
		return nil, err
	}
	if file != "" {
		return ringFromFile(file)
	}
	ring, err := NewKeyRing(text)
	if err != nil && !errors.Is(err, ErrNoKey) {
		return nil, fmt.Errorf("%s: %w", KeyVariable, err)
	}
	return ring, err
}

// KeySource says where the ring comes from: the text of HEADGATE_KEY, or the name of
// the file. It refuses both at once.
func KeySource(env func(string) string) (text address.Secret, file string, err error) {
	value, file := env(KeyVariable), env(KeyFileVariable)
	if strings.TrimSpace(value) != "" && file != "" {
		return text, "", jobs.AsInputError(KeyFileVariable, fmt.Errorf("both %s and %s are set: unset one of them", KeyVariable, KeyFileVariable))
	}
	return address.NewSecret(value), file, nil
}

func ringFromFile(file string) (*KeyRing, error) {
	source := &keySource{file: file}
	if err := source.read(); err != nil {
		return nil, fmt.Errorf("%s: %w", KeyFileVariable, err)
	}
	return &KeyRing{now: source.now, again: source.again}, nil
}

// keySource is a key file, and what was read of it last.
type keySource struct {
	file string

	mu   sync.Mutex
	set  keySet
	info fs.FileInfo
}

func (s *keySource) now() keySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set
}

// again reads the file if it has changed. A file that is gone or wrong leaves the keys
// as they were: they open what they opened.
func (s *keySource) again() keySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.file)
	if err != nil || os.SameFile(info, s.info) && info.ModTime().Equal(s.info.ModTime()) && info.Size() == s.info.Size() {
		return s.set
	}
	_ = s.read() // the next look tries again
	return s.set
}

func (s *keySource) read() error {
	text, info, err := keyfile.Read(s.file)
	if err != nil {
		return err
	}
	set, err := readKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", s.file, err)
	}
	s.set, s.info = set, info
	return nil
}

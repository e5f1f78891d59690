package catalog

import (
	"crypto/cipher"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// KeyRing holds the keys that seal addresses: the first seals, all open. It is safe
// for concurrent use, and prints as [redacted].
//
// A ring of NewKeyRing never changes. A ring of a file (see LoadKeyRing) is read again
// when the file has changed since: before a value is sealed, and when a value is met
// whose key the ring lacks. A file that cannot be read then leaves the ring as it was.
type KeyRing struct {
	// Closures, because no printer looks into one; a map of ciphers would show its
	// keys to those that follow pointers.
	now   func() keySet // the keys as they were read last
	again func() keySet // the same, after a look at where they come from
}

// keySet is the keys of one reading.
type keySet struct {
	ids  []string // the first seals
	byID map[string]cipher.AEAD
}

func (s keySet) key(id string) (cipher.AEAD, bool) {
	key, ok := s.byID[id]
	return key, ok
}

var keyID = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

func isKeyID(id string) bool { return keyID.MatchString(id) }

// NewKeyRing reads keys as HEADGATE_KEY has them: id:base64 of 32 bytes, one or
// several, separated by commas or newlines. An id has up to 32 lower-case
// letters, digits, - and _. Errors name an entry by its number and id only.
func NewKeyRing(keys address.Secret) (*KeyRing, error) {
	set, err := readKeys(keys)
	if err != nil {
		return nil, err
	}
	fixed := func() keySet { return set }
	return &KeyRing{now: fixed, again: fixed}, nil
}

func readKeys(keys address.Secret) (set keySet, err error) {
	set.byID = map[string]cipher.AEAD{}
	for i, entry := range splitKeys(keys.Reveal()) {
		id, key, err := parseKey(entry)
		if err != nil {
			return keySet{}, jobs.AsInputError("keys", fmt.Errorf("key %d of the ring: %w", i+1, err))
		}
		if slices.Contains(set.ids, id) {
			return keySet{}, jobs.AsInputError("keys", fmt.Errorf("key %d of the ring: the id %q is given twice", i+1, id))
		}
		set.ids = append(set.ids, id)
		set.byID[id] = newGCM(key)
	}
	if len(set.ids) == 0 {
		return keySet{}, ErrNoKey
	}
	return set, nil
}

// find returns the key of that id, after a look whether it is new where the ring
// comes from.
func (r *KeyRing) find(id string) (key cipher.AEAD, ok bool) {
	if key, ok = r.now().key(id); ok {
		return key, true
	}
	return r.again().key(id)
}

// IDs returns the names of the keys, the sealing one first.
func (r KeyRing) IDs() []string { return slices.Clone(r.now().ids) }

const redactedRing = "[redacted key ring]"

// String returns "[redacted key ring]".
func (r KeyRing) String() string { return redactedRing }

// GoString returns "[redacted key ring]".
func (r KeyRing) GoString() string { return redactedRing }

// Format writes "[redacted key ring]" whatever the verb.
func (r KeyRing) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedRing) }

// LogValue returns "[redacted key ring]".
func (r KeyRing) LogValue() slog.Value { return slog.StringValue(redactedRing) }

// MarshalJSON returns the string "[redacted key ring]".
func (r KeyRing) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedRing + `"`), nil }

// MarshalText returns "[redacted key ring]".
func (r KeyRing) MarshalText() ([]byte, error) { return []byte(redactedRing), nil }

package catalog

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// KeyRing holds the keys that seal addresses: the first seals, all open. It is
// immutable, safe for concurrent use, and prints as [redacted].
type KeyRing struct {
	ids []string

	// A closure, because no printer looks into one; a map of ciphers would show
	// its keys to those that follow pointers.
	key func(id string) (cipher.AEAD, bool)
}

var keyID = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

func isKeyID(id string) bool { return keyID.MatchString(id) }

// NewKeyRing reads keys as HEADGATE_KEY has them: id:base64 of 32 bytes, one or
// several, separated by commas or newlines. An id has up to 32 lower-case
// letters, digits, - and _. Errors name an entry by its number and id only.
func NewKeyRing(keys address.Secret) (*KeyRing, error) {
	ring, byID := &KeyRing{}, map[string]cipher.AEAD{}
	for i, entry := range splitKeys(keys.Reveal()) {
		id, key, err := parseKey(entry)
		if err != nil {
			return nil, jobs.AsInputError("keys", fmt.Errorf("key %d of the ring: %w", i+1, err))
		}
		if slices.Contains(ring.ids, id) {
			return nil, jobs.AsInputError("keys", fmt.Errorf("key %d of the ring: the id %q is given twice", i+1, id))
		}
		ring.ids = append(ring.ids, id)
		byID[id] = newGCM(key)
	}
	if len(ring.ids) == 0 {
		return nil, ErrNoKey
	}
	ring.key = func(id string) (cipher.AEAD, bool) {
		aead, ok := byID[id]
		return aead, ok
	}
	return ring, nil
}

// NewKey returns a new random key in the form that NewKeyRing reads, for tests,
// the demo and a rotation.
func NewKey(id string) address.Secret {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return address.NewSecret(id + ":" + base64.StdEncoding.EncodeToString(key))
}

func splitKeys(text string) (entries []string) {
	for _, entry := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// parseKey reads one entry. Its errors show the id only if it is one: in the
// place of an id there may stand a key.
func parseKey(entry string) (id string, key []byte, err error) {
	id, text, ok := strings.Cut(entry, ":")
	if !ok || !isKeyID(id) {
		return "", nil, errors.New(`it must begin with an id of lower-case letters and digits and a colon, as in k1:…; ` + howToMakeKey)
	}
	key, err = base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != keySize {
		return "", nil, fmt.Errorf("%q is not followed by the base64 of %d bytes; %s", id, keySize, howToMakeKey)
	}
	return id, key, nil
}

// IDs returns the names of the keys, the sealing one first.
func (r KeyRing) IDs() []string { return slices.Clone(r.ids) }

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

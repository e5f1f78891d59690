package catalog

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

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

// KeyList is the text of a key ring, for changing it. It is immutable: each change
// returns another list.
type KeyList struct {
	keys []address.Secret
	ids  []string
}

// ParseKeyList reads a text as NewKeyRing does.
func ParseKeyList(text address.Secret) (KeyList, error) {
	if _, err := readKeys(text); err != nil {
		return KeyList{}, err
	}
	var list KeyList
	for _, entry := range splitKeys(text.Reveal()) {
		id, _, _ := strings.Cut(entry, ":")
		list.keys, list.ids = append(list.keys, address.NewSecret(entry)), append(list.ids, id)
	}
	return list, nil
}

// IDs returns the names of the keys, the sealing one first.
func (l KeyList) IDs() []string { return slices.Clone(l.ids) }

// Text returns the keys, one a line with a newline behind each for a file, or with
// commas between for a variable.
func (l KeyList) Text(file bool) address.Secret {
	texts := make([]string, len(l.keys))
	for i, key := range l.keys {
		texts[i] = key.Reveal()
	}
	if file {
		return address.NewSecret(strings.Join(texts, "\n") + "\n")
	}
	return address.NewSecret(strings.Join(texts, ","))
}

// Add puts a new random key of that id behind the others. The error is a
// *jobs.InputError.
func (l KeyList) Add(id string) (KeyList, error) {
	switch {
	case !isKeyID(id):
		return l, jobs.Inputf("id", id, "give up to 32 lower-case letters, digits, - and _, a letter or digit first, as in k2")
	case slices.Contains(l.ids, id):
		return l, jobs.Inputf("id", id, "the ring has a key of that id; give another one")
	}
	return KeyList{append(slices.Clone(l.keys), NewKey(id)), append(slices.Clone(l.ids), id)}, nil
}

// Promote puts a key in front, where it seals. The error matches ErrUnknownKey.
func (l KeyList) Promote(id string) (KeyList, error) {
	rest, key, err := l.Remove(id)
	if err != nil {
		return l, err
	}
	return KeyList{append([]address.Secret{key}, rest.keys...), append([]string{id}, rest.ids...)}, nil
}

// Remove takes a key out, and returns it beside the rest. The error matches
// ErrUnknownKey.
func (l KeyList) Remove(id string) (rest KeyList, key address.Secret, err error) {
	i := slices.Index(l.ids, id)
	if i < 0 {
		return l, key, unknownKey(id, l.ids)
	}
	return KeyList{slices.Delete(slices.Clone(l.keys), i, i+1), slices.Delete(slices.Clone(l.ids), i, i+1)}, l.keys[i], nil
}

func unknownKey(id string, ids []string) error {
	return fmt.Errorf("%w %s: it has %s", ErrUnknownKey, shown(id), strings.Join(ids, ", "))
}

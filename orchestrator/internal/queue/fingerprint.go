package queue

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// fingerprint tells equal requests under one idempotency key from others,
// without keeping their arguments. Its hashes hold the scope and the key, so
// that equal arguments under two keys do not look alike.
type fingerprint struct {
	kind   string
	args   []byte            // of kind and arguments, however those are spaced and ordered
	fields map[string]string // of each top-level argument, short; none if there are more than maxFields
}

// maxFields bounds what a key's row holds for the sake of a good error.
const maxFields = 64

func newFingerprint(it *Draft) (fingerprint, error) {
	decoder := json.NewDecoder(bytes.NewReader(it.Args))
	decoder.UseNumber() // 1 and 1.0 stay two texts, and no digit is lost
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return fingerprint{}, fmt.Errorf("reading the args of kind %s: %w", it.Kind, err)
	}
	f := fingerprint{kind: it.Kind, fields: map[string]string{}}
	whole := it.hash("", it.Kind)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, err := json.Marshal(fields[name]) // sorts the keys of objects within
		if err != nil {
			return fingerprint{}, fmt.Errorf("reading args.%s of kind %s: %w", name, it.Kind, err)
		}
		hash := it.hash(name, string(value))
		whole = append(whole, hash...)
		if len(fields) <= maxFields {
			f.fields[name] = hex.EncodeToString(hash[:8])
		}
	}
	sum := sha256.Sum256(whole)
	f.args = sum[:]
	return f, nil
}

// hash is of one named value, under the draft's scope and key. Lengths stand
// before the parts, so that no two lists of parts run together the same.
func (it *Draft) hash(name, value string) []byte {
	h := sha256.New()
	for _, part := range []string{it.scope(), it.key, name, value} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash takes all
	}
	return h.Sum(nil)
}

// differs names the first field, by name, in which two requests differ: "kind",
// or "args.x". It returns "" if they are equal.
func (f fingerprint) differs(other fingerprint) string {
	switch {
	case f.kind != other.kind:
		return "kind"
	case bytes.Equal(f.args, other.args):
		return ""
	}
	names := maps.Clone(f.fields)
	maps.Copy(names, other.fields)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if f.fields[name] != other.fields[name] {
			return "args." + name
		}
	}
	return "args"
}

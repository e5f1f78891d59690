package catalog

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A sealed value is an envelope. A data key of its own encrypts the value, and
// a key of the ring encrypts the data key:
//
//	version 1 byte │ length of key id 1 byte │ key id │ wrapped data key 60 bytes │ value + 28 bytes
//
// Both parts are AES-256-GCM with a random nonce in front and the tag behind,
// and both are bound to the whole of binding below. With a key id of three
// letters a value grows by 93 bytes.
const (
	sealVersion = 1
	keySize     = 32
	wrappedSize = keySize + 28
)

var errTampered = errors.New("it is not what was sealed for this row, column and version, or another key of the same id has sealed it")

// seal encrypts plain for one column of one row with the ring's first key.
func (r *KeyRing) seal(owner uuid.UUID, column string, version int, plain []byte) []byte {
	keys := r.again()
	id := keys.ids[0]
	wrapping, _ := keys.key(id)
	bound := binding(id, owner, column, version)

	dataKey := make([]byte, keySize)
	_, _ = rand.Read(dataKey) // never fails, see crypto/rand

	sealed := append([]byte{sealVersion, byte(len(id))}, id...)
	sealed = wrapping.Seal(sealed, nil, dataKey, append(bound, "key"...))
	return newGCM(dataKey).Seal(sealed, nil, plain, append(bound, "value"...))
}

// open returns what seal was given, if owner, column and version are the same
// and no bit has changed. Every error matches address.ErrUndecryptable; one for
// a missing key names it.
func (r *KeyRing) open(owner uuid.UUID, column string, version int, sealed []byte) ([]byte, error) {
	plain, err := r.unseal(owner, column, version, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", address.ErrUndecryptable, err)
	}
	return plain, nil
}

func (r *KeyRing) unseal(owner uuid.UUID, column string, version int, sealed []byte) ([]byte, error) {
	id, rest, err := sealedWith(sealed)
	if err != nil {
		return nil, err
	}
	wrapping, ok := r.find(id)
	if !ok {
		return nil, fmt.Errorf("it was sealed with key %q, which the ring (%s) lacks; add that key behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE)",
			id, strings.Join(r.IDs(), ", "))
	}
	bound := binding(id, owner, column, version)
	dataKey, err := wrapping.Open(nil, nil, rest[:wrappedSize], append(bound, "key"...))
	if err != nil || len(dataKey) != keySize {
		return nil, errTampered
	}
	plain, err := newGCM(dataKey).Open(nil, nil, rest[wrappedSize:], append(bound, "value"...))
	if err != nil {
		return nil, errTampered
	}
	return plain, nil
}

// sealedWith reads the id of the key in front of a sealed value. The id is not
// authenticated yet; it is one that a ring could have.
func sealedWith(sealed []byte) (id string, rest []byte, err error) {
	if len(sealed) < 2 {
		return "", nil, errTampered
	}
	if sealed[0] != sealVersion {
		return "", nil, fmt.Errorf("it is sealed in form %d, and this program knows form %d only", sealed[0], sealVersion)
	}
	end := 2 + int(sealed[1])
	if len(sealed) < end+wrappedSize || !isKeyID(string(sealed[2:end])) {
		return "", nil, errTampered
	}
	return string(sealed[2:end]), sealed[end:], nil
}

// binding is the associated data of both encryptions: everything that must be
// the same when the value is opened. Each part has a fixed length or its length
// in front, so that no two bindings look alike.
func binding(keyID string, owner uuid.UUID, column string, version int) []byte {
	b := append([]byte("headgate"), sealVersion, byte(len(keyID)))
	b = append(b, keyID...)
	b = append(b, owner[:]...)
	b = append(b, byte(len(column)))
	b = append(b, column...)
	return binary.BigEndian.AppendUint64(b, uint64(version))
}

// newGCM makes the cipher of a key of keySize bytes, which cannot fail.
func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("catalog: " + err.Error()) // a KeySizeError: holds the size only
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("catalog: " + err.Error())
	}
	return gcm
}

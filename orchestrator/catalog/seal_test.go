package catalog

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestSealRoundTrip(t *testing.T) {
	t.Parallel()
	ring := newRing(t, "k01", "k02")
	rapid.Check(t, func(t *rapid.T) {
		owner := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "owner"))
		column := rapid.StringN(0, 20, 60).Draw(t, "column")
		version := rapid.IntRange(1, 1<<31-1).Draw(t, "version")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")

		sealed := ring.seal(owner, column, version, plain)
		require.Len(t, sealed, len(plain)+93)
		got, err := ring.open(owner, column, version, sealed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, got))
		require.NotEqual(t, sealed, ring.seal(owner, column, version, plain), "each sealing has its own data key")
	})
}

// P17: nothing opens that was changed by a bit, cut, or moved to another row,
// column or version.
func TestSealOpensNothingElse(t *testing.T) {
	t.Parallel()
	ring := newRing(t, "k1", "k2")
	refuse := func(t *rapid.T, owner uuid.UUID, column string, version int, sealed []byte) {
		plain, err := ring.open(owner, column, version, sealed)
		require.ErrorIs(t, err, address.ErrUndecryptable)
		require.Nil(t, plain)
	}
	rapid.Check(t, func(t *rapid.T) {
		owner, column, version := newID(), jobColumn, rapid.IntRange(1, 1000).Draw(t, "version")
		plain := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "plain")
		sealed := ring.seal(owner, column, version, plain)

		bit := rapid.IntRange(0, 8*len(sealed)-1).Draw(t, "bit")
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		refuse(t, owner, column, version, flipped)

		refuse(t, owner, column, version, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "cut")])
		refuse(t, owner, column, version, append(bytes.Clone(sealed), rapid.Byte().Draw(t, "more")))
		refuse(t, owner, ownerColumn, version, sealed)
		refuse(t, owner, "job_logon", version, sealed)
		refuse(t, owner, column, version+rapid.IntRange(1, 1<<40).Draw(t, "later"), sealed)
		refuse(t, owner, column, version-rapid.IntRange(1, 1000).Draw(t, "earlier"), sealed)

		other := owner
		other[rapid.IntRange(0, 15).Draw(t, "byte")] ^= rapid.ByteRange(1, 255).Draw(t, "with")
		refuse(t, other, column, version, sealed)
	})
}

func TestSealEveryBit(t *testing.T) {
	t.Parallel()
	ring := newRing(t, "k1", "k2", "k3") // ids one bit apart
	owner := newID()
	sealed := ring.seal(owner, jobColumn, 1, plainAddress)
	for bit := range 8 * len(sealed) {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, err := ring.open(owner, jobColumn, 1, flipped)
		require.ErrorIs(t, err, address.ErrUndecryptable, "bit %d", bit)
	}
}

func TestSealMissingKey(t *testing.T) {
	t.Parallel()
	owner := newID()
	sealed := newRing(t, "k3").seal(owner, jobColumn, 1, []byte("x"))
	_, err := newRing(t, "k1", "k2").open(owner, jobColumn, 1, sealed)
	require.ErrorIs(t, err, address.ErrUndecryptable)
	require.EqualError(t, err, `the sealed address cannot be opened: it was sealed with key "k3", which the ring (k1, k2) lacks; add that key behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE)`)

	_, err = newRing(t, "k3").open(owner, jobColumn, 1, sealed)
	require.EqualError(t, err, "the sealed address cannot be opened: it is not what was sealed for this row, column and version, or another key of the same id has sealed it", "another key of the same name")

	sealed[0] = 2
	_, err = newRing(t, "k3").open(owner, jobColumn, 1, sealed)
	require.EqualError(t, err, "the sealed address cannot be opened: it is sealed in form 2, and this program knows form 1 only")
}

// An older key opens what it sealed after another was put in front of it.
func TestSealAfterPromotion(t *testing.T) {
	t.Parallel()
	k1, k2, owner := NewKey("k1"), NewKey("k2"), newID()
	before, err := NewKeyRing(k1)
	require.NoError(t, err)
	after, err := NewKeyRing(address.NewSecret(k2.Reveal() + "," + k1.Reveal()))
	require.NoError(t, err)

	plain, err := after.open(owner, jobColumn, 1, before.seal(owner, jobColumn, 1, []byte("x")))
	require.NoError(t, err)
	require.Equal(t, "x", string(plain))
	_, err = before.open(owner, jobColumn, 1, after.seal(owner, jobColumn, 1, []byte("x")))
	require.ErrorContains(t, err, `sealed with key "k2"`)
}

func BenchmarkSeal(b *testing.B) {
	ring, owner, plain := newRing(b, "k1"), newID(), plainAddress
	for b.Loop() {
		ring.seal(owner, jobColumn, 1, plain)
	}
}

const planted = "S3cret-planted"

var plainAddress = address.Encode(address.Address{Host: "h", Database: "d", User: "u", Password: address.NewSecret(planted)})

func newRing(t require.TestingT, ids ...string) *KeyRing {
	var keys string
	for _, id := range ids {
		keys += NewKey(id).Reveal() + "\n"
	}
	ring, err := NewKeyRing(address.NewSecret(keys))
	require.NoError(t, err)
	return ring
}

package catalog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestKeyList(t *testing.T) {
	t.Parallel()
	k1 := NewKey("k1")
	list, err := ParseKeyList(k1)
	require.NoError(t, err)
	both, err := list.Add("k2")
	require.NoError(t, err)
	require.Equal(t, []string{"k1", "k2"}, both.IDs())
	require.Equal(t, []string{"k1"}, list.IDs(), "the list before is as it was")
	front, err := both.Promote("k2")
	require.NoError(t, err)
	require.Equal(t, []string{"k2", "k1"}, front.IDs())
	for _, file := range []bool{true, false} {
		again, err := ParseKeyList(front.Text(file))
		require.NoError(t, err)
		require.Equal(t, front.IDs(), again.IDs())
	}
	rest, key, err := front.Remove("k1")
	require.NoError(t, err)
	require.Equal(t, []string{"k2"}, rest.IDs())
	require.Equal(t, k1, key)

	_, err = both.Add("k2")
	require.EqualError(t, err, `id "k2": the ring has a key of that id; give another one`)
	_, err = both.Add("K 3")
	require.ErrorContains(t, err, `id "K 3": give up to 32 lower-case letters`)
	_, err = both.Promote("k3")
	require.ErrorIs(t, err, ErrUnknownKey)
	require.EqualError(t, err, `the key ring has no key "k3": it has k1, k2`)
	_, _, err = both.Remove("k3")
	require.ErrorIs(t, err, ErrUnknownKey)
	_, err = ParseKeyList(address.NewSecret(""))
	require.ErrorIs(t, err, ErrNoKey)
}

// A ring of a file opens with a key that the file has got since, and seals with the one
// that is first there now. A file that has become wrong takes no key away.
func TestARingFollowsItsFile(t *testing.T) {
	t.Parallel()
	k1, k2, k3 := NewKey("k1"), NewKey("k2"), NewKey("k3")
	file := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write(k1.Reveal())
	ring, err := LoadKeyRing(environment("HEADGATE_KEY_FILE", file))
	require.NoError(t, err)
	owner := uuid.New()
	with := func(key address.Secret) []byte {
		other, err := NewKeyRing(key)
		require.NoError(t, err)
		return other.seal(owner, jobColumn, 1, []byte("x"))
	}
	opens := func(key address.Secret) bool {
		_, err := ring.open(owner, jobColumn, 1, with(key))
		return err == nil
	}
	require.True(t, opens(k1))
	require.False(t, opens(k2))
	write(k1.Reveal() + "\n" + k2.Reveal())
	require.True(t, opens(k2))
	require.Equal(t, []string{"k1", "k2"}, ring.IDs())

	write(k2.Reveal() + "\n" + k1.Reveal())
	id, _, err := sealedWith(ring.seal(owner, jobColumn, 1, nil))
	require.NoError(t, err)
	require.Equal(t, "k2", id)

	write("nonsense")
	require.False(t, opens(k3))
	require.True(t, opens(k1))
	require.NoError(t, os.Remove(file))
	require.False(t, opens(k3))
	require.True(t, opens(k2))
}

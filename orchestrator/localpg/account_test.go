//go:build unix

package localpg

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChooseAccountNeverRoot(t *testing.T) {
	t.Parallel()
	a, err := chooseAccount("")
	require.NoError(t, err)
	require.NotZero(t, a.uid)
	require.Equal(t, os.Geteuid() == 0, a.lent)
}

func TestCanEnter(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "inner")
	require.NoError(t, os.Mkdir(dir, 0o755))
	parent := filepath.Dir(dir)
	require.NoError(t, os.Chmod(parent, 0o700))
	stranger := account{name: "stranger", uid: 4242, gid: 4242, lent: true}
	require.ErrorContains(t, stranger.canEnter(dir), "stranger, the account that Postgres runs as, may not enter "+parent)
	require.NoError(t, account{}.canEnter(dir), "nobody is asked who runs as himself")
	require.NoError(t, stranger.canEnter("/tmp"))
}

func TestChildEnvHoldsNoSecrets(t *testing.T) {
	t.Setenv("HEADGATE_TEST_SECRET", "hush")
	for _, entry := range childEnv() {
		require.NotContains(t, entry, "hush")
	}
}

func TestInitdbErrorExplainsMissingAccount(t *testing.T) {
	t.Parallel()
	err := initdbError(t.Context(), account{uid: 4242, gid: 7}, "initdb", os.ErrInvalid,
		"initdb: error: could not look up effective user ID 4242: user does not exist")
	require.ErrorContains(t, err, "headgate:x:4242:7::/tmp:/bin/sh")
}

//go:build unix

package localpg

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// bareFinder looks at a machine that has nothing at all.
func bareFinder(t *testing.T, env map[string]string) *finder {
	return &finder{
		account: account{name: "myself"}, noFetch: true,
		notify: func(sentence string) { t.Logf("notified: %s", sentence) },
		getenv: func(name string) string { return env[name] },
	}
}

// fakeBinaries writes an initdb and a postgres that say they are of a version.
func fakeBinaries(t *testing.T, dir, version string) string {
	t.Helper()
	script(t, dir, "initdb", "exit 1")
	script(t, dir, "postgres", `echo "postgres (PostgreSQL) `+version+`"`)
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	dir, err := FindBinaries(t.Context(), Config{})
	require.NoError(t, err)
	require.True(t, executable(filepath.Join(dir, "initdb")))
	require.True(t, executable(filepath.Join(dir, "postgres")))
}

func TestFindNothing(t *testing.T) {
	t.Parallel()
	_, err := bareFinder(t, nil).find(t.Context())
	for _, line := range []string{
		"no Postgres on this machine",
		"fetching is switched off",
		"\n  sudo apt-get install -y postgresql\n",
		"\n  brew install postgresql@18\n",
		"\n  docker run -d --name headgate-postgres -p 127.0.0.1:5432:5432 -e POSTGRES_PASSWORD=headgate postgres:18\n",
		"DATABASE_URL=postgres://postgres:headgate@127.0.0.1:5432/postgres",
		"PG_BINDIR",
	} {
		require.ErrorContains(t, err, line)
	}
}

func TestFindSaysWhatWillNotDo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fakeBinaries(t, filepath.Join(root, "old", "bin"), "13.9")
	script(t, filepath.Join(root, "broken", "bin"), "postgres", "echo wrong machine; exit 126")
	script(t, filepath.Join(root, "broken", "bin"), "initdb", "")
	script(t, filepath.Join(root, "half", "bin"), "postgres", `echo "postgres (PostgreSQL) 16.1"`)
	f := bareFinder(t, nil)
	f.globs = []string{filepath.Join(root, "*", "bin")}
	_, err := f.find(t.Context())
	require.ErrorContains(t, err, "old/bin: version 13 is too old: 14 or later is needed")
	require.ErrorContains(t, err, "broken/bin: postgres --version fails: exit status 126: wrong machine")
	require.ErrorContains(t, err, "half/bin: no initdb in it")
}

func TestFindPrefersHighestVersion(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fakeBinaries(t, filepath.Join(root, "9", "bin"), "9.6.24")
	newest := fakeBinaries(t, filepath.Join(root, "a", "bin"), "17.2 (Debian 17.2-1)")
	wanted := fakeBinaries(t, filepath.Join(root, "b", "bin"), "15.4")
	f := bareFinder(t, nil)
	f.globs = []string{filepath.Join(root, "*", "bin")}
	dir, err := f.find(t.Context())
	require.NoError(t, err)
	require.Equal(t, newest, dir)

	f.major = "15" // the kept data's
	dir, err = f.find(t.Context())
	require.NoError(t, err)
	require.Equal(t, wanted, dir)

	f.major = "14"
	_, err = f.find(t.Context())
	require.ErrorContains(t, err, "no Postgres 14 on this machine")
	require.ErrorContains(t, err, "brew install postgresql@14")
}

func TestFindOrder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	ordered := fakeBinaries(t, filepath.Join(root, "ordered"), "14.1")
	configured := fakeBinaries(t, filepath.Join(root, "configured"), "15.1")
	linked := fakeBinaries(t, filepath.Join(root, "linked"), "16.1")
	path := filepath.Join(root, "path")
	script(t, path, "pg_config", "echo "+configured)
	require.NoError(t, os.Symlink(filepath.Join(linked, "initdb"), filepath.Join(path, "initdb")))
	env := map[string]string{"PG_BINDIR": ordered, "PATH": "relative:" + path}
	find := func() string {
		dir, err := bareFinder(t, env).find(t.Context())
		require.NoError(t, err)
		return dir
	}
	require.Equal(t, ordered, find())
	delete(env, "PG_BINDIR")
	require.Equal(t, configured, find())
	require.NoError(t, os.Remove(filepath.Join(path, "pg_config")))
	require.Equal(t, linked, find())
}

func TestFindObeysUnusablePG_BINDIR(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f := bareFinder(t, map[string]string{"PG_BINDIR": filepath.Join(root, "nowhere")})
	f.globs = []string{fakeBinaries(t, filepath.Join(root, "bin"), "17.1")}
	_, err := f.find(t.Context())
	require.ErrorContains(t, err, "PG_BINDIR is "+root+"/nowhere, which will not do: no initdb in it")
}

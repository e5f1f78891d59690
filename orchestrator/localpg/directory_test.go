//go:build unix

package localpg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDirKeepsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "deep", "kept")
	s := start(t, Config{Dir: dir})
	require.Equal(t, "on", query(t, s.URL(""), "SHOW fsync"))
	require.Equal(t, dir, s.SocketDir())
	execute(t, s.URL(""), "CREATE TABLE kept AS SELECT 42 AS n")
	require.NoError(t, s.Stop())

	info, err := os.Stat(filepath.Join(dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	again := start(t, Config{Dir: dir})
	require.Equal(t, "42", query(t, again.URL(""), "SELECT n::text FROM kept"))
}

func TestDirServesOneAtATime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "kept")
	s := start(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir})
	require.ErrorIs(t, err, errLocked)
	require.ErrorContains(t, err, dir)
	require.Equal(t, "1", query(t, s.URL(""), "SELECT 1::text"))
}

func TestDirTooLongForSocket(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Dir: filepath.Join(openDir(t), strings.Repeat("long", 30))})
	require.True(t, fitsSocket(s.SocketDir()))
	require.Equal(t, "1", query(t, s.URL(""), "SELECT 1::text"))
	require.NoError(t, s.Stop())
	require.NoDirExists(t, s.SocketDir())
	require.DirExists(t, s.dir.path)
}

func TestDirWithForeignFilesIsRefused(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600))
	_, err := Start(t.Context(), Config{Dir: dir})
	require.ErrorContains(t, err, "thesis.txt")
	require.NoFileExists(t, filepath.Join(dir, "lock"))
}

func TestDirRecoversFromInterruptedFirstStart(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte("old\n"), 0o600))
	s := start(t, Config{Dir: dir})
	require.NotEqual(t, "old", s.password)
	require.Equal(t, "1", query(t, s.URL(""), "SELECT 1::text"))
}

func TestDirWithoutItsPassword(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, start(t, Config{Dir: dir}).Stop())
	password := filepath.Join(dir, "password")

	require.NoError(t, os.WriteFile(password, []byte("other\n"), 0o600))
	_, err := Start(t.Context(), Config{Dir: dir})
	require.ErrorContains(t, err, "refuses the superuser's password")
	require.NotContains(t, err.Error(), "other\n")

	require.NoError(t, os.Remove(password))
	_, err = Start(t.Context(), Config{Dir: dir})
	require.ErrorContains(t, err, password+" is gone")
}

func TestFitsSocket(t *testing.T) {
	t.Parallel()
	require.True(t, fitsSocket("/tmp/headgate-pg-0000000000"))
	require.True(t, fitsSocket("/"+strings.Repeat("d", 87)))
	require.False(t, fitsSocket("/"+strings.Repeat("d", 88)))
	require.False(t, fitsSocket("/tmp/a,b"))
}

func TestTempBaseFallsBack(t *testing.T) {
	t.Parallel()
	myself := account{}
	require.Equal(t, "/var/tmp", tempBase(myself, "/var/tmp"))
	require.Equal(t, "/tmp", tempBase(myself, "/"+strings.Repeat("long/", 20)))
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	require.Equal(t, "/tmp", tempBase(account{name: "somebody", uid: 4242, gid: 4242, lent: true}, closed))
}

package keyfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog/keyfile"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const planted = "S3cret-planted"

func written(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(planted), mode))
	require.NoError(t, os.Chmod(file, mode))
	return file
}

func plus(text string) func(address.Secret) (address.Secret, error) {
	return func(former address.Secret) (address.Secret, error) {
		return address.NewSecret(former.Reveal() + text), nil
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// The file is a new one of mode 0600, and nothing else is left.
func TestEdit(t *testing.T) {
	t.Parallel()
	file := written(t, 0o400)
	before, err := os.Stat(file)
	require.NoError(t, err)
	opened, err := os.Open(file)
	require.NoError(t, err)
	defer func() { _ = opened.Close() }()
	require.NoError(t, keyfile.Edit(file, plus("!")))
	require.Equal(t, planted+"!", content(t, file))
	after, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), after.Mode())
	require.False(t, os.SameFile(before, after))
	old := make([]byte, 100)
	n, _ := opened.Read(old)
	require.Equal(t, planted, string(old[:n]), "who has the file open reads the whole old one")
	alone(t, file)

	require.NoError(t, keyfile.Append(file+".retired", address.NewSecret("a\n")))
	require.NoError(t, keyfile.Append(file+".retired", address.NewSecret("b\n")))
	require.Equal(t, "a\nb\n", content(t, file+".retired"))
	info, err := os.Stat(file + ".retired")
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
}

// alone says that no half-written file is left beside.
func alone(t *testing.T, file string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), "."), e.Name())
	}
}

func TestEditRefuses(t *testing.T) {
	t.Parallel()
	link := written(t, 0o600)
	require.NoError(t, os.Rename(link, link+".real"))
	require.NoError(t, os.Symlink(link+".real", link))
	wide := written(t, 0o640)
	big := written(t, 0o600)
	require.NoError(t, os.Truncate(big, keyfile.MaxSize+1))
	for file, says := range map[string]string{
		link:                             "is a symbolic link",
		wide:                             "has mode 0640; it must be 0600 or stricter: run chmod 600 ",
		big:                              "too much for a key ring",
		filepath.Dir(wide):               "is not a regular file",
		filepath.Join(t.TempDir(), "no"): "no such file",
	} {
		err := keyfile.Edit(file, func(address.Secret) (address.Secret, error) {
			t.Errorf("%s is changed", file)
			return address.Secret{}, nil
		})
		require.ErrorContains(t, err, says)
		require.NotContains(t, fmt.Sprintf("%+v", err), planted)
	}
	require.Error(t, keyfile.Append(link, address.NewSecret("x")))
	require.Equal(t, planted, content(t, link+".real"))

	good, wrong := written(t, 0o600), errors.New("wrong")
	require.ErrorIs(t, keyfile.Edit(good, func(s address.Secret) (address.Secret, error) { return s, wrong }), wrong)
	require.ErrorContains(t, keyfile.Edit(good, plus(strings.Repeat("x", keyfile.MaxSize))), "too much for a key ring")
	require.Equal(t, planted, content(t, good))
	alone(t, good)
}

// Another user's file is refused, also by root, who could write it.
func TestEditRefusesAnothersFile(t *testing.T) {
	t.Parallel()
	f, err := os.Open(written(t, 0o600))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	require.NoError(t, keyfile.Own(f, os.Geteuid()))
	require.ErrorContains(t, keyfile.Own(f, os.Geteuid()+1), fmt.Sprintf("belongs to user %d, and this process runs as %d: run the command as the file's owner", os.Geteuid(), os.Geteuid()+1))
}

// Of many at once each edits or is refused; no edit is lost.
func TestEditsAtOnce(t *testing.T) {
	t.Parallel()
	file := written(t, 0o600)
	var group sync.WaitGroup
	var mu sync.Mutex
	edited := 0
	for range 8 {
		group.Go(func() {
			for range 20 {
				err := keyfile.Edit(file, plus("!"))
				mu.Lock()
				if err == nil {
					edited++
				} else if !strings.Contains(err.Error(), "run this one again") {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	require.Positive(t, edited)
	require.Equal(t, planted+strings.Repeat("!", edited), content(t, file))
	alone(t, file)
}

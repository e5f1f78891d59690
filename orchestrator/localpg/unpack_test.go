//go:build unix

package localpg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// archiveOf makes an npm archive.
func archiveOf(t *testing.T, files ...tarFile) []byte {
	t.Helper()
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	plain := tar.NewWriter(packed)
	for _, file := range files {
		header := &tar.Header{Name: file.name, Mode: file.mode, Size: int64(len(file.text)), Typeflag: tar.TypeReg}
		if file.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, file.link
		}
		require.NoError(t, plain.WriteHeader(header))
		_, err := plain.Write([]byte(file.text))
		require.NoError(t, err)
	}
	require.NoError(t, plain.Close())
	require.NoError(t, packed.Close())
	return archive.Bytes()
}

type tarFile struct {
	name string
	mode int64
	text string
	link string
}

// binariesArchive holds an initdb and a postgres of version 18.
func binariesArchive(t *testing.T) []byte {
	return archiveOf(t,
		tarFile{name: "package/native/bin/postgres", mode: 0o755, text: "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n"},
		tarFile{name: "package/native/bin/initdb", mode: 0o755, text: "#!/bin/sh\n"},
		tarFile{name: "package/native/lib/libpq.so.5.18", mode: 0o600, text: "library"},
		tarFile{name: "package/native/pg-symlinks.json", mode: 0o644,
			text: `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`},
	)
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, unpack(bytes.NewReader(binariesArchive(t)), dir))
	require.True(t, executable(filepath.Join(dir, "native/bin/postgres")))
	leads, err := os.Readlink(filepath.Join(dir, "native/lib/libpq.so.5"))
	require.NoError(t, err)
	require.Equal(t, "libpq.so.5.18", leads)
	for path, mode := range map[string]os.FileMode{
		"native": 0o755, "native/lib": 0o755, "native/bin/initdb": 0o755, "native/lib/libpq.so.5.18": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	links := func(text string) tarFile { return tarFile{name: "package/native/pg-symlinks.json", text: text} }
	for name, archive := range map[string][]byte{
		"traversal":          archiveOf(t, tarFile{name: "package/../../escaped", text: "x"}),
		"absolute":           archiveOf(t, tarFile{name: "/escaped", text: "x"}),
		"absolute inside":    archiveOf(t, tarFile{name: "package//escaped", text: "x"}),
		"other top":          archiveOf(t, tarFile{name: "escaped", text: "x"}),
		"link":               archiveOf(t, tarFile{name: "package/lib", link: "../.."}),
		"same name twice":    archiveOf(t, tarFile{name: "package/a", text: "x"}, tarFile{name: "package/a", text: "y"}),
		"link target":        archiveOf(t, tarFile{name: "package/a", text: "x"}, links(`[{"source":"a","target":"../../escaped"}]`)),
		"link source":        archiveOf(t, links(`[{"source":"../../escaped","target":"a"}]`)),
		"link over a file":   archiveOf(t, tarFile{name: "package/a"}, tarFile{name: "package/b"}, links(`[{"source":"a","target":"b"}]`)),
		"link to nothing":    archiveOf(t, links(`[{"source":"a","target":"b"}]`)),
		"no list of links":   archiveOf(t, links(`{`)),
		"no archive":         []byte("<html>502</html>"),
		"archive cut in two": binariesArchive(t)[:200],
	} {
		parent := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(parent, "a"), 0o755))
		require.Error(t, unpack(bytes.NewReader(archive), filepath.Join(parent, "a", "tree")), name)
		require.NoFileExists(t, filepath.Join(parent, "escaped"), name)
		require.NoFileExists(t, filepath.Join(parent, "a", "escaped"), name)
	}
	require.NoFileExists(t, "/escaped")
}

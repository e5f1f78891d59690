//go:build unix

package localpg

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unpack writes the files of an npm archive below dir, which it makes, and the
// links that npm archives cannot carry. Nothing is ever written outside dir; the
// archive holds files only, anything else in it is refused. Everything becomes
// readable by all, whatever our umask says: another account runs it.
func unpack(archive io.Reader, dir string) error {
	plain, err := gzip.NewReader(archive)
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := unpackFiles(tar.NewReader(plain), root); err != nil {
		return err
	}
	if err := makeLinks(root); err != nil {
		return err
	}
	return openUp(root)
}

func unpackFiles(archive *tar.Reader, root *os.Root) error {
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if err := unpackFile(header, archive, root); err != nil {
			return fmt.Errorf("unpacking %q: %w", header.Name, err)
		}
	}
}

func unpackFile(header *tar.Header, content io.Reader, root *os.Root) error {
	name, ok := strings.CutPrefix(header.Name, "package/")
	if !ok || !filepath.IsLocal(name) {
		return errors.New("it lies outside of the package")
	}
	if header.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o755)
	}
	if header.Typeflag != tar.TypeReg {
		return fmt.Errorf("it is no file but of type %q", header.Typeflag)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	mode := 0o644 | header.FileInfo().Mode().Perm()&0o111
	return errors.Join(err, file.Chmod(mode), file.Close())
}

// link is an entry of the package's list of links.
type link struct {
	Source string `json:"source"` // the file that is there
	Target string `json:"target"` // the name that shall lead to it
}

// makeLinks makes the links, relative ones, so that the tree can be moved. Which
// libraries the binaries load is decided by them.
func makeLinks(root *os.Root) error {
	text, err := root.ReadFile("native/pg-symlinks.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []link
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("reading the package's list of links: %w", err)
	}
	for _, l := range links {
		if err := makeLink(root, l); err != nil {
			return fmt.Errorf("linking %q to %q: %w", l.Target, l.Source, err)
		}
	}
	return nil
}

func makeLink(root *os.Root, l link) error {
	if !filepath.IsLocal(l.Source) || !filepath.IsLocal(l.Target) {
		return errors.New("it leads outside of the package")
	}
	if _, err := root.Stat(l.Source); err != nil {
		return err
	}
	source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
	if err != nil {
		return err
	}
	return root.Symlink(source, l.Target)
}

// openUp lets every account enter the directories.
func openUp(root *os.Root) error {
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return root.Chmod(path, 0o755)
	})
}

//go:build unix

package jobstest

import (
	"context"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/localpg"
)

// BaseBackup takes a base backup of a server, and returns a folder that localpg can start
// another server from. With --write-recovery-conf in more that server is a replica, which
// streams from the first. The folder is gone when the test ends.
func BaseBackup(t testing.TB, from *localpg.Server, more ...string) (dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "headgate-backup-") // not t.TempDir, which the server's account cannot enter
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err == nil {
		args := []string{"-D", filepath.Join(dir, "data"), "-d", from.URL("postgres"), "-X", "stream", "--checkpoint=fast"}
		var out []byte
		if out, err = exec.CommandContext(ctx, filepath.Join(from.BinDir(), "pg_basebackup"), append(args, more...)...).CombinedOutput(); err != nil { //nolint:gosec // Postgres's own program
			t.Fatalf("pg_basebackup: %v: %s", err, out)
		}
	}
	if err == nil {
		err = likeServer(ctx, from, dir)
	}
	if err != nil {
		t.Fatalf("taking a base backup: %v", err)
	}
	return dir
}

// likeServer gives a folder the password of a server and the owner of its files.
func likeServer(ctx context.Context, server *localpg.Server, dir string) error {
	at, err := url.Parse(server.URL("postgres"))
	if err != nil {
		return err
	}
	password, _ := at.User.Password()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(password), 0o600); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, at.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var data string
	if err := conn.QueryRow(ctx, `SHOW data_directory`).Scan(&data); err != nil {
		return err
	}
	info, err := os.Stat(data)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // on Unix
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid)) //nolint:gosec // nobody else is in the directory yet
	})
}

//go:build unix

package localpg

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// superuser is the name of the one role of a fresh cluster.
const superuser = "postgres"

// openCluster makes the cluster in d on first use, and returns the superuser's
// password.
func openCluster(ctx context.Context, d *directory, bin string) (string, error) {
	if d.initialized() {
		return keptPassword(d)
	}
	password := rand.Text()
	if err := writePassword(d, password); err != nil {
		return "", fmt.Errorf("localpg: writing the superuser's password into %s: %w", d.path, err)
	}
	if err := initdb(ctx, d, bin); err != nil {
		return "", err
	}
	if d.temporary {
		if err := os.Remove(d.password()); err != nil {
			return "", fmt.Errorf("localpg: removing the superuser's password file: %w", err)
		}
	}
	return password, nil
}

func keptPassword(d *directory) (string, error) {
	text, err := os.ReadFile(d.password())
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("localpg: %s is gone: write the superuser's password into it, or begin anew in an empty directory", d.password())
	}
	if err != nil {
		return "", fmt.Errorf("localpg: reading the superuser's password: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// writePassword writes the file that initdb reads, in a mode that lets nobody
// else do so at any moment.
func writePassword(d *directory, password string) error {
	if err := os.Remove(d.password()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(d.password(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, password)
	return errors.Join(err, file.Sync(), file.Close(), d.account.give(d.password()))
}

// initdb makes the cluster under another name first: data is there whole or not
// at all, also when we are killed in the middle. Kept data is synced to disk,
// which costs a moment.
func initdb(ctx context.Context, d *directory, bin string) error {
	making := d.data() + ".new"
	args := []string{
		"-D", making, "-U", superuser, "--pwfile", d.password(), "-A", "scram-sha-256",
		"--no-instructions", "--locale=C", "--encoding=UTF8",
	}
	if d.temporary {
		args = append(args, "--no-sync")
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = d.path, childEnv(), d.account.attributes()
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return initdbError(ctx, d.account, cmd.Path, err, output.String())
	}
	if err := os.Rename(making, d.data()); err != nil {
		return fmt.Errorf("localpg: putting the new cluster into place: %w", err)
	}
	return nil
}

func initdbError(ctx context.Context, a account, path string, err error, output string) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("localpg: making a cluster with %s: %w", path, context.Cause(ctx))
	case strings.Contains(output, "could not look up effective user"):
		return fmt.Errorf("localpg: uid %d has no entry in /etc/passwd and initdb insists on one: "+
			"add a line (headgate:x:%d:%d::/tmp:/bin/sh), start as another user, or set DATABASE_URL", a.uid, a.uid, a.gid)
	default:
		return fmt.Errorf("localpg: making a cluster with %s as %s: %w\n%s", path, a.name, err, lastLines(output, 10))
	}
}

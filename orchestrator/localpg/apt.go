//go:build unix

package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// aptInstaller installs the distribution's Postgres on Debian, Ubuntu and their
// kin. Only root gets one.
type aptInstaller struct {
	aptGet  string
	confDir string // where postgresql-common reads whether to make a cluster
}

// newAptInstaller returns nil where apt-get cannot or may not install.
func newAptInstaller(a account) *aptInstaller {
	aptGet, err := exec.LookPath("apt-get")
	if _, noDebian := os.Stat("/etc/debian_version"); err != nil || noDebian != nil || !a.lent {
		return nil
	}
	return &aptInstaller{aptGet: aptGet, confDir: "/etc/postgresql-common/createcluster.d"}
}

// install brings the binaries only: the package would make and start a server of
// its own on port 5432, which a file of ours forbids for as long as this takes.
// postgresql-common goes first because it owns the directory of that file.
func (apt *aptInstaller) install(ctx context.Context, notify func(string)) (err error) {
	notify("no Postgres found on this machine: installing the package postgresql from the distribution's archive into /usr/lib/postgresql with apt-get, without a server of its own; HEADGATE_NO_FETCH=1 refuses this")
	ctx, cancel := context.WithTimeoutCause(ctx, fetchBound, fmt.Errorf("not done after %s", fetchBound))
	defer cancel()
	if err := apt.run(ctx, "update"); err != nil {
		return err
	}
	if err := apt.run(ctx, "install", "-y", "postgresql-common"); err != nil {
		return err
	}
	forbidden, err := apt.forbidCluster()
	if err != nil {
		return fmt.Errorf("keeping the package from making a server: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(forbidden)) }()
	return apt.run(ctx, "install", "-y", "postgresql")
}

func (apt *aptInstaller) forbidCluster() (path string, err error) {
	if err := os.MkdirAll(apt.confDir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(apt.confDir, "headgate.conf")
	return path, os.WriteFile(path, []byte("create_main_cluster = false\n"), 0o644)
}

func (apt *aptInstaller) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, apt.aptGet, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // lets dpkg finish its step
	cmd.WaitDelay = time.Minute
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], errors.Join(err, context.Cause(ctx)), lastLines(string(output), 5))
	}
	return nil
}

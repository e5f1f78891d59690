//go:build faults && linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The image has the program alone, which runs there as nobody in particular: it knows the
// time zones and certificate authorities, answers healthcheck, and says what it lacks.
func TestFaultsImage(t *testing.T) {
	if testing.Short() {
		t.Skip("the smoke does not build images")
	}
	root := filepath.Join("..", "..")
	in := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "BUILDAH_ISOLATION=chroot", "STORAGE_DRIVER=vfs")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s %s: %s", name, args, out)
		return strings.TrimSpace(string(out))
	}
	in("make", "build")
	in("buildah", "build", "--quiet", "-f", "deploy/Dockerfile", "-t", "localhost/headgate-test", ".")
	defer in("buildah", "rmi", "--force", "localhost/headgate-test")
	lines := strings.Split(in("buildah", "from", "--pull-never", "localhost/headgate-test"), "\n")
	container := lines[len(lines)-1]
	defer in("buildah", "rm", container)
	require.Equal(t, "65532:65532", in("buildah", "inspect", "--format", "{{.OCIv1.Config.User}}", container))
	inside := in("buildah", "mount", container)
	var files []string
	require.NoError(t, filepath.WalkDir(inside, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, inside))
		}
		return err
	}))
	require.Equal(t, []string{"/usr/bin/headgate"}, files)
	run := func(args ...string) (out string, code int) {
		cmd := exec.Command("/usr/bin/headgate", args...)
		cmd.Env = []string{"DATABASE_URL=postgres://nobody@127.0.0.1:1/none"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: inside, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		cmd.Dir = "/"
		text, _ := cmd.CombinedOutput() // the code says it
		return string(text), cmd.ProcessState.ExitCode()
	}
	out, code := run("version")
	require.Zero(t, code, out)
	out, code = run("schedule", "preview", "--cron", "0 3 * * *", "--zone", "Europe/Paris")
	require.Zero(t, code, out)
	require.Contains(t, out, "03:00:00")
	out, code = run("healthcheck", "9180")
	require.Equal(t, 5, code, out)
	out, code = run("tenant", "list")
	require.Equal(t, 5, code, out)
}

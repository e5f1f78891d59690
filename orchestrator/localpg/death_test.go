//go:build unix

package localpg

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// victim is a program with a server, ready to be killed.
type victim struct {
	cmd    *exec.Cmd
	server postmaster
	dir    string
	url    string
}

// startVictim runs the test binary as a program that starts a server in dir.
func startVictim(t *testing.T, dir string) victim {
	t.Helper()
	v := victim{cmd: exec.Command(os.Args[0])}
	v.cmd.Env = append(os.Environ(), helperVar+"="+dir)
	_, err := v.cmd.StdinPipe()
	require.NoError(t, err)
	output, err := v.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, v.cmd.Start())
	t.Cleanup(func() { _ = v.cmd.Process.Kill() })
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscan(line, &v.server.pid, &v.dir, &v.url)
	require.NoError(t, err, line)
	require.True(t, v.server.lives())
	return v
}

func (v victim) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, v.cmd.Process.Signal(syscall.SIGKILL))
	require.ErrorContains(t, v.cmd.Wait(), "killed")
}

func TestServerDiesWithItsProgram(t *testing.T) {
	t.Parallel()
	v := startVictim(t, "-")
	v.kill(t)
	killed := time.Now()
	// The file goes last. The pid may stay for as long as init leaves zombies.
	require.Eventually(t, func() bool { return !readPostmaster(filepath.Join(v.dir, "data")).lives() }, time.Minute, 5*time.Millisecond)
	t.Logf("gone %s after its program", time.Since(killed).Round(time.Millisecond))

	start(t, Config{})
	require.NoDirExists(t, v.dir)
}

func TestDirSurvivesItsProgram(t *testing.T) {
	t.Parallel()
	v := startVictim(t, filepath.Join(openDir(t), "kept"))
	execute(t, v.url, "CREATE TABLE kept AS SELECT 42 AS n")
	v.kill(t)

	s := start(t, Config{Dir: v.dir}) // at once: the orphan is still shutting down
	require.Equal(t, "42", query(t, s.URL(""), "SELECT n::text FROM kept"))
}

func TestSweepSparesTheLiving(t *testing.T) {
	t.Parallel()
	v := startVictim(t, "-")
	start(t, Config{})
	require.DirExists(t, v.dir)
	require.Equal(t, "1", query(t, v.url, "SELECT 1::text"))
	v.kill(t)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	place := func(name string, files ...string) string {
		dir := filepath.Join(base, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		for _, file := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte("1\n\n\n5432\n/nowhere\n"), 0o600))
		}
		return dir
	}
	abandoned := place("headgate-pg-1", "lock")
	recycledPID := place("headgate-pg-2", "lock", "data/postmaster.pid")
	locked := place("headgate-pg-3", "lock")
	lockless := place("headgate-pg-4")
	unbornNow := place("headgate-pg-5.new")
	unbornLong := place("headgate-pg-6.new")
	foreign := place("other-pg-7", "lock")
	long := time.Now().Add(-2 * unbornFor)
	require.NoError(t, os.Chtimes(unbornLong, long, long))
	lock, err := lockIn(locked)
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()

	sweep(base)

	for _, dir := range []string{abandoned, recycledPID, unbornLong} {
		require.NoDirExists(t, dir)
	}
	for _, dir := range []string{locked, lockless, unbornNow, foreign} {
		require.DirExists(t, dir)
	}
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	sleeper := func() *exec.Cmd {
		cmd := exec.Command("sleep", "600")
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd
	}
	orphan, guarded := sleeper(), sleeper()

	dog, err := startWatchdog(account{}, orphan.Process.Pid)
	require.NoError(t, err)
	require.NoError(t, dog.pipe.Close()) // as our death would
	require.ErrorContains(t, orphan.Wait(), "interrupt")
	require.NoError(t, dog.shell.Wait())

	dog, err = startWatchdog(account{}, guarded.Process.Pid)
	require.NoError(t, err)
	dog.release()
	require.True(t, dog.shell.ProcessState.Success())
	require.NoError(t, guarded.Process.Signal(syscall.SIGTERM))
	require.ErrorContains(t, guarded.Wait(), "terminated", "a released watchdog must not signal")
}

// The kernel watches the thread that started the server. That thread has to be
// ours for good, not the caller's, which ends here together with its goroutine.
func TestServerOutlivesThreadOfItsCaller(t *testing.T) {
	t.Parallel()
	started := make(chan *Server)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		s, err := Start(t.Context(), Config{})
		assert.NoError(t, err)
		started <- s
	}()
	s := <-started
	require.NotNil(t, s)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	for range 40 {
		require.Equal(t, "1", query(t, s.URL(""), "SELECT 1::text"))
	}
}

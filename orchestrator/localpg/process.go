//go:build unix

package localpg

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a running postgres with the goroutine that waits for it.
type process struct {
	pid  int
	cmd  *exec.Cmd
	done chan struct{} // closed once the process is gone and waited for
}

// startProcess starts cmd as the account, tied to this program's life. Its
// goroutine keeps one OS thread for as long as the process lives: the kernel
// takes the end of the starting thread for the end of the parent, and Go ends
// threads when it pleases.
func startProcess(a account, cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = a.attributes()
	leash(cmd.SysProcAttr)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		p.live(a, started)
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("starting %s as %s: %w", cmd.Path, a.name, err)
	}
	return p, nil
}

func (p *process) live(a account, started chan<- error) {
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = p.cmd.Process.Pid
	if !leashed {
		dog, err := startWatchdog(a, p.pid)
		if err != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			started <- err
			return
		}
		defer dog.release()
	}
	started <- nil
	_ = p.cmd.Wait() // how it ended stands in p.cmd.ProcessState
}

// shutdown is one way to ask Postgres to end, and how long it may take.
type shutdown struct {
	signal syscall.Signal
	bound  time.Duration
}

// shutdowns are the ways in order, by the mode they begin with: each is tried
// when the one before did not end the server in time. Fast ends the sessions and
// writes a checkpoint; immediate leaves the rest to recovery; the last one is
// for a postmaster that hangs.
var shutdowns = map[string][]shutdown{
	"fast": {
		{syscall.SIGINT, 15 * time.Second}, {syscall.SIGQUIT, 6 * time.Second}, {syscall.SIGKILL, 5 * time.Second},
	},
	"immediate": {
		{syscall.SIGQUIT, 6 * time.Second}, {syscall.SIGKILL, 5 * time.Second},
	},
}

// stop ends the process, beginning with mode, and returns when it is gone.
func (p *process) stop(mode string) error {
	for _, step := range shutdowns[mode] {
		_ = p.cmd.Process.Signal(step.signal) // fails only if it is gone already
		bound := time.NewTimer(step.bound)
		select {
		case <-p.done:
			bound.Stop()
			return nil
		case <-bound.C:
		}
	}
	return fmt.Errorf("localpg: Postgres (process %d) outlived SIGKILL: look at it with ps, its disk may hang", p.pid)
}

// childEnv is all that our children see of the environment: what finds programs
// and libraries, no secrets. C makes their messages readable to us, and a set
// time zone spares initdb a search through all of them.
func childEnv() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// lastLines returns the end of a program's output, for an error message.
func lastLines(output string, n int) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

//go:build unix

package localpg

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
)

// watchdog is a shell that holds one end of a pipe whose other end is ours. When
// we die, by whatever signal, the pipe closes and the shell sends the server
// SIGINT. It has a process group of its own, or Ctrl-C would end it first.
type watchdog struct {
	shell *exec.Cmd
	pipe  io.WriteCloser
}

// watchdogScript sleeps in read. A line means that the server is gone and its
// pid may be somebody else's: do nothing. The end of the pipe means we died.
const watchdogScript = `read -r line || kill -INT "$1"`

func startWatchdog(a account, pid int) (*watchdog, error) {
	shell := exec.Command("/bin/sh", "-c", watchdogScript, "headgate-watchdog", strconv.Itoa(pid))
	shell.SysProcAttr = a.attributes()
	shell.Dir = "/"
	shell.Env = []string{}
	pipe, err := shell.StdinPipe()
	if err == nil {
		err = shell.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the watchdog of process %d: %w", pid, err)
	}
	return &watchdog{shell: shell, pipe: pipe}, nil
}

// release sends the watchdog home without a signal. Call it once the server has
// been waited for.
func (w *watchdog) release() {
	_, _ = io.WriteString(w.pipe, "\n") // fails only if the shell is gone already
	_ = w.pipe.Close()
	_ = w.shell.Wait()
}

//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// runChild runs a command and returns how it ended, as *childError. When ctx ends
// the child is told the signal that ended it, and waited for.
func runChild(ctx context.Context, app *cli.App, path string, args, environ []string) error {
	atTerminal := foreground()
	cmd := &exec.Cmd{Path: path, Args: args, Env: environ, Stdout: app.Stdout, Stderr: app.Stderr, WaitDelay: 5 * time.Second}
	if stdin, ok := app.Stdin.(*os.File); ok {
		cmd.Stdin = stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !atTerminal}
	leash(cmd.SysProcAttr)

	ended := make(chan error, 1)
	started := make(chan error, 1)
	go func() { // the child is tied to the thread that starts it
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", path, err)
	}
	select {
	case err := <-ended:
		return howItEnded(path, err)
	case <-ctx.Done():
	}
	forward(ctx, cmd.Process.Pid, atTerminal)
	return howItEnded(path, <-ended)
}

// forward tells the child and what it has started why we end. At a terminal an
// interrupt has reached it already: it is of our process group.
func forward(ctx context.Context, pid int, atTerminal bool) {
	sig := syscall.SIGTERM
	var why cli.InterruptedError
	if errors.As(context.Cause(ctx), &why) {
		if s, ok := why.Signal.(syscall.Signal); ok {
			sig = s
		}
	}
	if atTerminal {
		if sig != syscall.SIGINT {
			_ = syscall.Kill(pid, sig) // it may be gone
		}
		return
	}
	_ = syscall.Kill(-pid, sig)
}

// howItEnded turns an ended child into its exit code; as a shell does, 128 and
// the signal's number for one that was killed.
func howItEnded(path string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("running %s: %w", path, err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &cli.ChildError{Code: 128 + int(status.Signal())}
	}
	return &cli.ChildError{Code: exit.ExitCode()}
}

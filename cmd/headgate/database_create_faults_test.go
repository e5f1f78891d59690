//go:build faults && linux

package main

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// A create is killed at each message of its connections in turn, before and after the
// server's answer. The smoke takes each fifth.
func TestFaultsKilledDatabaseCreate(t *testing.T) {
	t.Parallel()
	every := 1
	if testing.Short() {
		every = 5
	}
	killingCreate{every: every}.run(t)
}

// A create that freezes at any moment loses its sessions on the server first, and then the
// intent. Another run completes the work, and the first one can do nothing when it wakes.
func TestFaultsFrozenDatabaseCreate(t *testing.T) {
	t.Parallel()
	b, w := wired(t)
	w.passOn()
	folder := t.TempDir()
	args := []string{"database", "create", b.name, "--server", "wire", "--kind", "dedicated", "--app-url-file"}
	w.arm(0, false, nil)
	b.ok(append(args, filepath.Join(folder, "0"))...)
	messages, every := w.seen(), 12
	b.forget()
	if testing.Short() {
		every = 70
	}
	for n := 40; n < messages*9/10; n += every {
		file := filepath.Join(folder, fmt.Sprint(n))
		cmd, out := b.process(append(args, file)...)
		started, frozen := make(chan struct{}), make(chan struct{})
		w.arm(n, false, func() {
			<-started
			_ = cmd.Process.Signal(syscall.SIGSTOP)
			close(frozen)
		})
		require.NoError(t, cmd.Start())
		close(started)
		<-frozen
		w.arm(0, false, nil)
		began := time.Now()
		r := b.run(append(args, file)...)
		waited := time.Since(began)
		require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
		require.Error(t, cmd.Wait(), out.String())
		t.Logf("frozen at message %d: the other run needed %.0f s and ended with %d; the first said: %s", n, waited.Seconds(), r.code, out.String())
		require.Equal(t, cli.ExitOK, r.code, r.err)
		b.complete(file)
		b.forget()
	}
}

//go:build unix

package suspend

import (
	"os"
	"os/signal"
	"syscall"
)

// Process stops the process, and returns when somebody has sent it SIGCONT. The signal alone
// would not do, because the thread that sends the signal may go on until another thread
// of the process has taken it.
func Process() {
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCONT)
	defer signal.Stop(woken)
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // a process may always signal itself
	<-woken
}

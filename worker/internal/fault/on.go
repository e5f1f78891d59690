//go:build faults && unix

package fault

import (
	"os"
	"syscall"
)

var at = os.Getenv("HEADGATE_CRASH_AT")

// Point kills the process, without a word to anybody, if it is the step that
// HEADGATE_CRASH_AT names.
func Point(name string) {
	if name == at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // a process may always signal itself
		select {}
	}
}

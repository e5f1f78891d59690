//go:build faults && unix

package fault

import (
	"os"
	"syscall"

	"github.com/headgate/headgate/jobs/jobstest/suspend"
)

var crash, stop = os.Getenv("HEADGATE_CRASH_AT"), os.Getenv("HEADGATE_STOP_AT")

// Point kills the process, without a word to anybody, if it is the step that
// HEADGATE_CRASH_AT names, and stops the process if HEADGATE_STOP_AT names the step.
func Point(name string) {
	if name == stop {
		suspend.Process()
	}
	if name == crash {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // a process may always signal itself
		select {}
	}
}

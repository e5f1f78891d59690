//go:build faults && unix

package fault

import (
	"os"

	"github.com/headgate/headgate/jobs/jobstest/suspend"
)

var at = os.Getenv("HEADGATE_STOP_AT")

// Point stops the process, until somebody sends it SIGCONT, if it is the place that
// HEADGATE_STOP_AT names.
func Point(name string) {
	if name == at {
		suspend.Process()
	}
}

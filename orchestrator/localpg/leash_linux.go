package localpg

import "syscall"

// leashed says that the kernel itself ends the server when we die.
const leashed = true

// leash asks the kernel to send SIGINT, a fast shutdown, when the thread that
// starts the process ends. Linux ties this to the thread, not to the process:
// see startProcess.
func leash(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

package tenantdb

import (
	"fmt"
	"syscall"
	"time"
)

// unanswered is how long what we sent may stay unacknowledged before the kernel
// gives the connection up: a host that vanished sends no reset.
const unanswered = 15 * time.Second

const tcpUserTimeout = 18 // TCP_USER_TIMEOUT, which package syscall does not name

func giveUpUnanswered(socket syscall.RawConn) error {
	var failed error
	err := socket.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unanswered.Milliseconds()))
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

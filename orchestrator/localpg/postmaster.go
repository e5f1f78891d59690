//go:build unix

package localpg

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postmaster is what a server wrote about itself into postmaster.pid. The zero
// value is a server that is not there.
type postmaster struct {
	pid    int
	socket string
}

// readPostmaster reads dir's postmaster.pid: the pid in its first line, the port
// in its fourth, the socket's directory in its fifth.
func readPostmaster(dir string) postmaster {
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return postmaster{}
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 {
		return postmaster{}
	}
	found := postmaster{pid: pid}
	if len(lines) > 4 {
		found.socket = filepath.Join(lines[4], ".s.PGSQL."+strings.TrimSpace(lines[3]))
	}
	return found
}

// lives says whether its pid is some process's. In a container that was started
// again it may well be a stranger's.
func (p postmaster) lives() bool {
	return p.pid != 0 && !errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH)
}

// answers says whether it lives and somebody listens on its socket: then the pid
// is no stranger's. It takes a second at most and no context: one that is
// canceled would make a living server look dead.
func (p postmaster) answers() bool {
	if !p.lives() || p.socket == "" {
		return false
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "unix", p.socket)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was written
	return true
}

// strangerAfter is how long a pid may live without answering before it counts as
// a stranger's. A server closes its socket microseconds before it ends.
const strangerAfter = time.Second

// awaitOrphan waits while the server of a killed program, in the data directory
// whose lock we hold, still shuts down. The last word on whether the directory
// is free has Postgres, which checks it again.
func awaitOrphan(ctx context.Context, dir string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	heard := time.Now()
	for {
		orphan := readPostmaster(dir)
		if !orphan.lives() {
			return nil
		}
		if orphan.answers() {
			heard = time.Now()
		} else if time.Since(heard) > strangerAfter {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("localpg: a server (process " + strconv.Itoa(orphan.pid) +
				") still runs on " + dir + " and does not end: stop it with kill -INT")
		case <-tick.C:
		}
	}
}

//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuTime is what was used so far, user and system together.
type cpuTime struct{ postgres, process time.Duration }

func (c cpuTime) minus(before cpuTime) cpuTime {
	return cpuTime{c.postgres - before.postgres, c.process - before.process}
}

// cpuMeter reads the CPU time of this process and of a Postgres on this machine.
type cpuMeter struct {
	postmaster int // its process, 0 if it is elsewhere
}

func (m cpuMeter) read() (c cpuTime) {
	c.process = processTime()
	if m.postmaster != 0 {
		c.postgres = m.tree()
	}
	return c
}

// processTime is this process's own part.
func processTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// tree adds up the postmaster, its children, and those of its children that are
// gone. All of Postgres's processes are children of the postmaster. A child that ends
// while the others are read would count twice or not at all, so they are read again then.
func (m cpuMeter) tree() (sum time.Duration) {
	path := "/proc/" + strconv.Itoa(m.postmaster) + "/stat"
	for range 10 {
		before := readStat(path)
		sum = before.own + before.deadChildren
		all, _ := filepath.Glob("/proc/[0-9]*/stat") // a constant pattern
		for _, path := range all {
			if p := readStat(path); p.parent == m.postmaster {
				sum += p.own
			}
		}
		if readStat(path).deadChildren == before.deadChildren {
			break
		}
	}
	return sum
}

// tick is the unit of /proc/PID/stat: Linux gives user space a hundred a second
// on every architecture that matters here.
const tick = 10 * time.Millisecond

// processStat is what /proc tells of a process; zero if it has just gone.
type processStat struct {
	pid, parent       int
	name              string
	own, deadChildren time.Duration
}

func readStat(path string) (p processStat) {
	text, err := os.ReadFile(path) //nolint:gosec // one of /proc
	if err != nil {
		return p
	}
	before, after, _ := strings.Cut(string(text), " (")
	end := strings.LastIndex(after, ")") // a name may hold anything
	if end < 0 {
		return p
	}
	fields := strings.Fields(after[end+1:])
	if len(fields) < 15 {
		return p
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(fields[i]) // the kernel writes numbers
		return n
	}
	p.pid, _ = strconv.Atoi(before)
	p.name, p.parent = after[:end], number(1)
	p.own = time.Duration(number(11)+number(12)) * tick
	p.deadChildren = time.Duration(number(13)+number(14)) * tick
	return p
}

// postmasterOf returns the parent of a backend, if that is a process of this
// machine and a Postgres.
func postmasterOf(backend int) int {
	p := readStat("/proc/" + strconv.Itoa(backend) + "/stat")
	if !strings.HasPrefix(p.name, "postgres") {
		return 0
	}
	return p.parent
}

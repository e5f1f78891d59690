package localpg

import "syscall"

// roomInMemory is what a file system in memory must have free to be used: a test
// suite's databases are 8 MB each, and the log a gigabyte.
const roomInMemory = 4 << 30

// memoryBase is where files live in memory, or "" where there is not enough of it.
func memoryBase(a account) string {
	const base = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(base, &fs); err != nil || fs.Type != tmpfs || uint64(fs.Bsize)*fs.Bavail < roomInMemory {
		return ""
	}
	if a.canEnter(base) != nil {
		return ""
	}
	return base
}

const tmpfs = 0x01021994

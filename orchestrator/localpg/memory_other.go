//go:build unix && !linux

package localpg

// memoryBase is where files live in memory: nowhere that is known here.
func memoryBase(account) string { return "" }

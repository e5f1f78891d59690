//go:build !faults || !linux

package worker_test

// freezer is for the faults tier.
func freezer() bool { return false }

//go:build faults && linux

package main

import "testing"

// A create is killed at each message of its connections in turn, before and after the
// server's answer. The smoke takes each fifth.
func TestFaultsKilledDatabaseCreate(t *testing.T) {
	t.Parallel()
	every := 1
	if testing.Short() {
		every = 5
	}
	killingCreate{every: every}.run(t)
}

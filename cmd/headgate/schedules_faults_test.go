//go:build faults

package main

import "testing"

// 100,000 schedules due in one moment, with one scheduler and with three, which are
// killed with SIGKILL meanwhile: none is lost, none doubled.
func TestFaultsKilledSchedulers(t *testing.T) {
	if testing.Short() {
		t.Skip("the smoke of it is TestKilledSchedulersLoseNothing, in make test")
	}
	killing{schedules: 100_000, processes: 1, kills: 5}.run(t)
	killing{schedules: 100_000, processes: 3, kills: 12}.run(t)
}

//go:build faults

package schedule_test

import "testing"

// 10,000 tenants at their midnight, on four servers. The smoke of it is
// TestMidnightIsSpread, in make test.
func TestFaultsMidnight(t *testing.T) {
	if testing.Short() {
		t.Skip("the smoke of it is TestMidnightIsSpread, in make test")
	}
	midnight(t, 10_000, 4)
}

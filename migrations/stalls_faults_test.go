//go:build faults

package migrations_test

import (
	"testing"
	"time"
)

// A queue of 600,000 rows, and a reader of 12 s.
func TestFaultsMigrationBesideEnqueuers(t *testing.T) {
	if testing.Short() {
		measureUpgrade(t, 50_000, 5*time.Second)
		return
	}
	measureUpgrade(t, 600_000, 12*time.Second)
}

//go:build faults

package tenantdb_test

import (
	"os"
	"testing"
)

// The same as TestNothingLeaks, two hundred times each; in the soak a thousand.
func TestFaultsNothingLeaks(t *testing.T) {
	t.Parallel()
	switch {
	case testing.Short():
		leaks(t, 3)
	case os.Getenv("HEADGATE_SOAK") != "":
		leaks(t, 1000)
	default:
		leaks(t, 200)
	}
}

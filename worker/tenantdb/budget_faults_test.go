//go:build faults

package tenantdb_test

import (
	"testing"
	"time"
)

// The budget at its full size: 200 databases of one server, 20 connections, 64
// goroutines, the backends counted every 100 ms.
func TestFaultsTheBudgetOfAServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the smoke of it is TestTheBudgetOfAServer, in make test")
	}
	keepsTheBudget(t, 200, 20, 64, 100, 100*time.Millisecond)
}

//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/internal/fault"
)

// At each step of an attempt twenty worker processes die, each with four jobs:
// their connections are gone from the tenant's server, and every job has its
// effect once and uses no attempt.
func TestFaultsCrashPoints(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		name      string
		recovered bool // what was in hand at the step is found done in the ledger
	}{
		{name: fault.Claimed}, {name: fault.Fetched}, {name: fault.Resolved}, {name: fault.Begun}, {name: fault.Finished},
		{name: fault.Committed, recovered: true}, {name: fault.Ended, recovered: true}, {name: fault.Completing, recovered: true},
		{name: fault.Completed},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			crashAt(t, step.name, step.recovered)
		})
	}
}

func crashAt(t *testing.T, step string, recovered bool) {
	t.Helper()
	deaths := 20
	if testing.Short() {
		deaths = 3
	}
	env := jobstest.New(t)
	tenants := newTenants(t, env, "crash", 4, nil)
	list, queues := map[string]order{}, map[string]int{}
	for i := range deaths {
		queue := fmt.Sprintf("crash-%d", i)
		queues[queue] = 4
		for j := range 4 {
			args := SlowTransfer{Transfer: upward(i), MS: 10 * j}
			acceptWith(t, env, tenants, j, args, list, enqueueTo(queue))
		}
		newVictim(t, env, fmt.Sprintf("crasher-%d", i), quickBeat, "HEADGATE_CRASH_AT="+step, envVictimQueue+"="+queue).died(t)
	}
	noConnections(t, tenants[0].db)

	cfg := beatEvery(env.Config(), quickBeat)
	cfg.Queues, cfg.Logger = queues, quietLogger()
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	waitUntilDone(t, env, time.Minute)

	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	found := 0
	for uid, e := range endings(t, env, "slow-transfer") {
		require.Equal(t, 1, e.succeeded, "job %s: %+v", uid, e)
		require.Zero(t, e.failed, "job %s: %+v", uid, e)
		require.Equal(t, 1, e.attempts, "an attempt was used: job %s: %+v", uid, e)
		found += e.recovered
	}
	t.Logf("%d of %d workers died at this step; %d doubled, %d missing of %d; %d found done in the ledger", deaths, deaths, doubled, missing, of, found)
	require.Zero(t, doubled)
	require.Zero(t, missing)
	replay(t, tenants, list)
	if recovered {
		require.GreaterOrEqual(t, found, deaths, "they did not die where they should have")
	}
}

// noConnections waits until no job's connection is left on the tenant's server.
func noConnections(t *testing.T, db *jobstest.Database) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, db.Job.User).Scan(&left))
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d connections are left on the tenant's server", left)
		case <-tick.C:
		}
	}
}

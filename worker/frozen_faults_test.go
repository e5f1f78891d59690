//go:build faults

package worker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A worker process stops in the middle of a job's transaction. Its server ends
// that transaction after the kind's IdleTimeout, and the job goes on elsewhere;
// the process wakes later and changes nothing.
func TestFaultsFrozenWorker(t *testing.T) {
	t.Parallel()
	n := 10
	if testing.Short() {
		n = 3
	}
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", n, nil)
	list, frozen, uids := map[string]order{}, []*victim{}, []string{}
	stopped := map[string]time.Time{}
	for i := range n {
		flag := filepath.Join(t.TempDir(), "freeze")
		require.NoError(t, os.WriteFile(flag, nil, 0o600))
		v := newVictim(t, env, fmt.Sprintf("frozen-%d", i), quickBeat)
		uid := accept(t, env, tenants, i, Freeze{Transfer: upward(i), Flag: flag}, list)
		require.Equal(t, uid, receive(t, v.began))
		frozen, uids = append(frozen, v), append(uids, uid)
		stopped[uid] = time.Now()
	}
	cfg := beatEvery(env.Config(), quickBeat)
	cfg.Queues, cfg.LockTimeout, cfg.Logger = map[string]int{victimQueue: n}, 500*time.Millisecond, quietLogger()
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	var longest time.Duration
	for _, uid := range uids {
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, 1, got.Attempt)
		longest = max(longest, got.EndedAt.Sub(stopped[uid]))
	}
	for _, v := range frozen {
		require.NoError(t, v.cmd.Process.Signal(syscall.SIGCONT))
	}
	// The woken ones find out at their next heartbeat and go on as others.
	env.WaitFor(accept(t, env, tenants, 0, SlowTransfer{Transfer: upward(0)}, list), func(o jobs.Outcome) bool { return o.State == jobs.Succeeded })
	awaitWoken(t, env, n)
	doubled, missing, of := audit(t, tenants, list, "freeze")
	t.Logf("%d workers frozen in their transaction; their jobs were done elsewhere after at most %s (IdleTimeout %s); %d doubled, %d missing of %d",
		n, longest.Round(time.Millisecond), freezeIdle, doubled, missing, of)
	require.Zero(t, doubled+missing)
	replay(t, tenants, list)
	// Frozen one after the other; the undertaker starts when all are.
	require.LessOrEqual(t, longest, freezeIdle+time.Duration(n)*time.Second+5*time.Second)
}

// awaitWoken waits until n processes have found that they were declared dead.
func awaitWoken(t *testing.T, env *jobstest.Env, n int) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var woken int
		require.NoError(t, env.Pool.QueryRow(t.Context(), `
SELECT count(*) FROM (SELECT worker FROM headgate.workers WHERE worker LIKE 'frozen-%' GROUP BY 1 HAVING count(*) > 1) w`).Scan(&woken))
		if woken >= n {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%d of %d woken workers began a new life", woken, n)
		case <-tick.C:
		}
	}
}

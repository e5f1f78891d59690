//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// The central server crashes ten times under load: no accepted job is lost,
// effects happen once, and the workers go on without being started again.
func TestFaultsCentralRestarts(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	env := jobstest.NewOn(t, &jobstest.Postgres{Name: "central", URL: server.URL})
	restartUnderLoad(t, env, newTenants(t, env, "bank", 8, nil), server)
}

// A tenants' server crashes ten times under load: no attempt is used for it, and
// effects happen once.
func TestFaultsTenantRestarts(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", 8, &jobstest.Postgres{Name: "tenants", URL: server.URL})
	restartUnderLoad(t, env, tenants, server)
}

func restartUnderLoad(t *testing.T, env *jobstest.Env, tenants []bankTenant, server *localpg.Server) {
	t.Helper()
	times := 10
	if testing.Short() {
		times = 2
	}
	chance := rand.New(rand.NewPCG(seedOf(t), 4))
	var victims []*victim
	for i := range 2 {
		victims = append(victims, newVictim(t, env, fmt.Sprintf("worker-%d", i), quickBeat))
	}
	var over atomic.Bool
	var refused atomic.Int64
	accepted := make(chan map[string]order, 1)
	go func() { accepted <- enqueueUntil(t, env, tenants, &over, &refused) }()

	var gaps, downs []time.Duration
	inHand := 0
	for range times {
		awaitProgress(t, env)
		<-time.After(time.Duration((0.5 + chance.Float64()) * float64(time.Second)))
		for _, v := range victims {
			if v.inHand(t, env) > 0 {
				inHand++
				break
			}
		}
		began := time.Now()
		require.NoError(t, server.Restart(context.Background(), "immediate"))
		downs = append(downs, time.Since(began))
		env.Pool.Reset()
		tenants[0].db.Pool.Reset()
		awaitProgress(t, env)
		gaps = append(gaps, time.Since(began))
	}
	over.Store(true)
	list := <-accepted
	env.Pool.Reset()
	waitUntilDone(t, env, time.Minute)

	for _, v := range victims {
		require.NoError(t, v.cmd.Process.Signal(syscall.Signal(0)), "worker %s is gone", v.id)
		select {
		case <-v.eof:
			t.Errorf("worker %s ended", v.id)
		default:
		}
	}
	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	unfinished, used, failed, classes := 0, 0, 0, map[string]int{}
	all := endings(t, env, "slow-transfer")
	for uid := range list {
		e := all[uid]
		if e.succeeded != 1 {
			unfinished++
		}
		used += max(e.attempts-1, 0)
		failed += e.failed
		if e.classes != "" {
			classes[e.classes]++
		}
	}
	t.Logf("%d crashes, %d with jobs in hand; %d jobs accepted and %d refused; %d unfinished, %d doubled, %d missing, %d attempts used; held for %v; down %s, from crash to the next completion at most %s",
		times, inHand, of, refused.Load(), unfinished, doubled, missing, used, classes,
		slices.Max(downs).Round(time.Millisecond), slices.Max(gaps).Round(time.Millisecond))
	require.GreaterOrEqual(t, inHand, times*3/4, "too few crashes met a job in hand")
	require.Zero(t, unfinished)
	require.Zero(t, doubled)
	require.Zero(t, missing)
	require.Zero(t, used, "a crash used an attempt")
	require.Zero(t, failed)
	require.Less(t, slices.Max(gaps), 15*time.Second)
}

// enqueueUntil enqueues thirty transfers a second and counts what was refused.
func enqueueUntil(t *testing.T, env *jobstest.Env, tenants []bankTenant, over *atomic.Bool, refused *atomic.Int64) map[string]order {
	accepted := map[string]order{}
	pace := time.NewTicker(33 * time.Millisecond)
	defer pace.Stop()
	for i := 0; !over.Load(); i++ {
		<-pace.C
		args := SlowTransfer{Transfer: upward(i / len(tenants)), MS: 20 + 37*i%180}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		result, err := env.Client.Enqueue(ctx, tenants[i%len(tenants)].tenant.Slug, args, enqueueTo(victimQueue))
		cancel()
		if err != nil {
			refused.Add(1)
			continue
		}
		accepted[result.UID] = order{i % len(tenants), args.Kind(), args.Transfer}
	}
	return accepted
}

// awaitProgress waits until another job has succeeded.
func awaitProgress(t *testing.T, env *jobstest.Env) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	first := -1
	for {
		var n int
		err := env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.outcomes WHERE state = $1`, string(jobs.Succeeded)).Scan(&n)
		switch {
		case err == nil && first < 0:
			first = n
		case err == nil && n > first:
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no job has succeeded for a minute: %v", err)
		case <-tick.C:
		}
	}
}

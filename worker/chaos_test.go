package worker_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// chaos is one run of the chaos: worker processes are killed and stopped while
// transfers run, and then every transfer must have had its effect once.
type chaos struct {
	beat     time.Duration // the workers' heartbeat; 0 is the product's default
	workers  int
	survivor bool     // one more, in this process, leads the queue's maintenance and works nothing
	more     []string // of the workers' environment
	named    bool     // their central sessions have their IDs as application_name

	jobs      int           // how many transfers, at least
	pace      time.Duration // between two of them
	barePer   int           // control jobs for each
	faults    int           // how many SIGKILL and SIGSTOP, at least
	every     time.Duration // the mean time between two of them
	stopShare float64       // how many of them are SIGSTOP
	stopFor   time.Duration // the longest one; SIGCONT follows

	inWindow int           // how many faults must fall between begin_job and completion
	settle   time.Duration // how long all may take to end after the last fault
	again    time.Duration // within which a dead worker's jobs must run again, p99; 0 only measures
}

// seedOf prints the seed of a test's chance. HEADGATE_SEED=n repeats it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1e9
	if given := os.Getenv("HEADGATE_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err, "HEADGATE_SEED")
	}
	t.Logf("HEADGATE_SEED=%d repeats this sequence", seed)
	return seed
}

// run does it and judges it.
func (c chaos) run(t *testing.T) {
	t.Helper()
	seed := seedOf(t)
	env, tenants := newBank(t)
	// What dead workers held counts until they are known to be dead; at a fault every
	// 0.4 s that alone is the default budget.
	_, err := env.Catalog.SetServer(context.Background(), jobstest.Server, catalog.ServerChange{Budget: new(150)})
	require.NoError(t, err)
	if c.survivor {
		cfg := withQueue(env.Config(), "survivor")
		cfg.Logger = quietLogger()
		env.Work(ptr(beatEvery(cfg, c.beat)), func(w *worker.Worker) {
			registerVictimKinds(w, func(string) {})
		})
	}
	var struck atomic.Bool // the last fault is done
	accepted := make(chan map[string]order, 1)
	go func() { accepted <- c.openLoop(t, env, tenants, rand.New(rand.NewPCG(seed, 2)), &struck) }()
	victims := c.strike(t, env, rand.New(rand.NewPCG(seed, 1)), accepted, &struck)
	list := <-accepted
	waitUntilDone(t, env, c.settle)

	c.judge(t, env, tenants, list)
	c.judgeAgain(t, env, victims)
}

// openLoop enqueues at a steady pace, whatever the workers do, until there are
// enough and the faults are over, and returns what was accepted.
func (c chaos) openLoop(t *testing.T, env *jobstest.Env, tenants []bankTenant, chance *rand.Rand, struck *atomic.Bool) map[string]order {
	accepted := map[string]order{}
	pace := time.NewTicker(c.pace)
	defer pace.Stop()
	for i := 0; i < c.jobs || !struck.Load(); i++ {
		<-pace.C
		slow := SlowTransfer{Transfer: upward(chance.IntN(1000)), MS: 50 + chance.IntN(450)}
		accept(t, env, tenants, i, slow, accepted)
		for range c.barePer {
			accept(t, env, tenants, i, BareTransfer{Transfer: Transfer{From: 6, To: 7, Amount: 1}, MS: 20 + chance.IntN(100)}, accepted)
		}
	}
	return accepted
}

// minExposed is how many control jobs must be caught between their effect and their
// end. More than one, because an end may be recorded just after it was looked for.
const minExposed = 4

// strike runs the worker processes and does the faults, until all jobs are enqueued and
// there are enough faults: enough of them in the window, and [minExposed] jobs in the
// control's. A machine that is busy otherwise needs up to three times as many. strike
// returns every process that there was.
func (c chaos) strike(t *testing.T, env *jobstest.Env, chance *rand.Rand, accepted chan map[string]order, struck *atomic.Bool) (all []*victim) {
	t.Helper()
	victims := make([]*victim, c.workers)
	start := func(i int) {
		id, more := fmt.Sprintf("victim-%d", len(all)), c.more
		if c.named {
			more = append(slices.Clone(more), envVictimURL+"="+env.URL+"&application_name="+id)
		}
		victims[i] = newVictim(t, env, id, c.beat, more...)
		all = append(all, victims[i])
	}
	for i := range victims {
		start(i)
	}
	inWindow, jobsInWindow, stops, exposed, n := 0, 0, 0, 0, 0
	enough := func() bool {
		return n >= c.faults && inWindow >= c.inWindow && (exposed >= minExposed || c.barePer == 0) || n >= 3*c.faults
	}
	for !enough() || len(accepted) == 0 {
		pause := time.Duration((0.5 + chance.Float64()) * float64(c.every))
		i, stop := chance.IntN(c.workers), chance.Float64() < c.stopShare
		stopFor := time.Duration((0.3 + 0.7*chance.Float64()) * float64(c.stopFor))
		<-time.After(pause)
		victims[i].work(10 * time.Second)
		var hit int
		if stop && victims[i].started(t, env) { // one that is stopped while it starts may end: a supervisor's matter
			stops++
			hit = victims[i].stop(t, env, stopFor)
		} else {
			hit = victims[i].kill(t, env)
			exposed += victims[i].exposed()
			start(i)
		}
		if hit > 0 {
			inWindow++
			jobsInWindow += hit
		}
		n++
		struck.Store(enough())
	}
	t.Logf("%d faults: %d SIGKILL and %d SIGSTOP of up to %s; %d of them between begin_job and completion, with %d jobs; %d control jobs were committed and not completed",
		n, n-stops, stops, c.stopFor, inWindow, jobsInWindow, exposed)
	require.GreaterOrEqual(t, inWindow, c.inWindow, "too few faults fell between begin_job and completion to prove anything")
	return all
}

// judge asserts what the faults must not have done, and that they could have.
func (c chaos) judge(t *testing.T, env *jobstest.Env, tenants []bankTenant, list map[string]order) {
	t.Helper()
	var attempts, quarantined, lost, recovered int
	var why []string
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT max(attempt), (SELECT count(*) FROM headgate.outcomes WHERE class = 'quarantined'), count(*) FILTER (WHERE class = 'lost_worker'), count(*) FILTER (WHERE recovered),
       coalesce(array_agg(DISTINCT class || ': ' || message) FILTER (WHERE state NOT IN ('succeeded', 'snoozed') AND class <> 'lost_worker'), '{}')
FROM headgate.outcomes WHERE kind = 'slow-transfer'`).Scan(&attempts, &quarantined, &lost, &recovered, &why))
	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	bareDoubled, _, bares := audit(t, tenants, list, "bare-transfer")
	t.Logf("%d jobs: %d doubled, %d missing, %d attempts used, %d quarantined; %d attempts lost with their workers, %d found done in the ledger; without the ledger %d of %d doubled",
		of, doubled, missing, attempts-1, quarantined, lost, recovered, bareDoubled, bares)
	require.Zero(t, quarantined, "innocent jobs in quarantine")
	require.Zero(t, doubled, "transfers whose effect happened twice")
	require.Zero(t, missing, "transfers whose effect never happened")
	replay(t, tenants, list)
	require.Equal(t, 1, attempts, "a death used an attempt: %v", why)
	require.NotZero(t, bareDoubled, "the control did not double, so these faults prove nothing")
}

// lostAttempt is an attempt whose worker was declared dead, and when the job's
// next one started.
type lostAttempt struct {
	Worker  string
	EndedAt time.Time
	Next    *time.Time
}

const lostAttempts = `
SELECT l.worker, l.ended_at, (
    SELECT min(n.started_at) FROM headgate.outcomes n
    WHERE n.job_uid = l.job_uid AND n.id <> l.id AND n.started_at >= l.ended_at)
FROM headgate.outcomes l WHERE l.class = 'lost_worker' AND l.worker <> ''`

// judgeAgain measures, from the history, the time from a worker's death to its
// jobs running again.
func (c chaos) judgeAgain(t *testing.T, env *jobstest.Env, victims []*victim) {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), lostAttempts)
	require.NoError(t, err)
	lost, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lostAttempt])
	require.NoError(t, err)
	struck := map[string][]time.Time{}
	for _, v := range victims {
		struck[v.id] = v.struck
	}
	var waits []time.Duration
	for _, l := range lost {
		var death time.Time
		for _, at := range struck[l.Worker] {
			if at.Before(l.EndedAt) {
				death = at
			}
		}
		if l.Next == nil || death.IsZero() {
			t.Errorf("a lost attempt of worker %q has no death or no next attempt", l.Worker)
			continue
		}
		waits = append(waits, l.Next.Sub(death))
	}
	require.NotEmpty(t, waits)
	p99 := percentile(waits, 0.99)
	t.Logf("from death to running again, %d attempts: p50 %s, p99 %s, max %s",
		len(waits), percentile(waits, 0.5).Round(time.Millisecond), p99.Round(time.Millisecond), slices.Max(waits).Round(time.Millisecond))
	if c.again > 0 {
		require.LessOrEqual(t, p99, c.again)
	}
}

func percentile[T cmp.Ordered](list []T, p float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// waitUntilDone waits until nothing is left to do in the queue.
func waitUntilDone(t *testing.T, env *jobstest.Env, bound time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		var state string
		require.NoError(t, env.Pool.QueryRow(ctx, `
SELECT count(*), coalesce(string_agg(DISTINCT state::text || ' ' || kind, ', '), '') FROM river_job WHERE finalized_at IS NULL`).Scan(&left, &state))
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d jobs are still open after %s (%s)", left, bound, state)
		case <-tick.C:
		}
	}
}

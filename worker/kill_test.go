package worker_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// SlowTransfer is Transfer that spends some time inside its transaction.
type SlowTransfer struct {
	Transfer
	MS int `json:"ms"`
}

func (SlowTransfer) Kind() string { return "slow-transfer" }

// BareTransfer is the same work as a careful engineer would write it without
// Headgate: one transaction of its own, no ledger. It is the control: if the
// kills do not double it, they prove nothing about the other.
type BareTransfer SlowTransfer

func (BareTransfer) Kind() string { return "bare-transfer" }

func (BareTransfer) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Idempotent} } // which is not true

// Poison kills the process that runs it.
type Poison struct{}

func (Poison) Kind() string { return "poison" }

const (
	kills       = 50
	killEvery   = 800 * time.Millisecond
	killWorkers = 3
	transfers   = 500
	bares       = 250
)

// registerKillKinds is what the killed processes and the surviving one know.
func registerKillKinds(w *worker.Worker, began func(uid string)) {
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[SlowTransfer]) error {
		began(job.UID) // behind begin_job
		if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, float64(job.Args.MS)/1000); err != nil {
			return err
		}
		return transfer(ctx, tx, &jobs.Job[Transfer]{Info: job.Info, Args: job.Args.Transfer})
	})
	worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Poison]) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
	worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[BareTransfer]) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT set_config('headgate.org', $1, true), pg_sleep($2)`,
				fmt.Sprint(job.Tenant.OrgID), float64(job.Args.MS)/1000); err != nil {
				return err
			}
			return transfer(ctx, tx, &jobs.Job[Transfer]{Info: job.Info, Args: job.Args.Transfer})
		})
	})
}

func killConfig(cfg worker.Config) worker.Config {
	cfg.HeartbeatEvery, cfg.DeadAfter = 500*time.Millisecond, 2*time.Second
	return cfg
}

const (
	envKilled    = "HEADGATE_TEST_KILLED_WORKER" // its ID; makes this binary a worker
	envKilledURL = "HEADGATE_TEST_KILLED_URL"
)

// killedWorker is the main function of a process that is there to be killed. It
// says on standard output which jobs have begun.
func killedWorker() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(envKilledURL))
	if err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, pool)
	if err != nil {
		return err
	}
	w, err := worker.New(killConfig(worker.Config{
		Pool: pool, Resolver: cat, ID: os.Getenv(envKilled), Queues: map[string]int{"killed": 8},
		FetchCooldown: 5 * time.Millisecond, PollInterval: 100 * time.Millisecond, HoldFor: 100 * time.Millisecond,
		RetryDelay: func(int) time.Duration { return 10 * time.Millisecond },
	}))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	registerKillKinds(w, func(uid string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(os.Stdout, uid)
	})
	return w.Run(ctx)
}

// victim is a running worker process and what it said.
type victim struct {
	id    string
	cmd   *exec.Cmd
	began map[string]bool
	eof   chan struct{}
}

func newVictim(t *testing.T, env *jobstest.Env, key, id string) *victim {
	t.Helper()
	v := &victim{id: id, cmd: exec.Command(os.Args[0]), began: map[string]bool{}, eof: make(chan struct{})}
	v.cmd.Env = append(os.Environ(), envKilled+"="+id, envKilledURL+"="+env.URL, "HEADGATE_KEY="+key)
	v.cmd.Stderr = io.Discard
	out, err := v.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, v.cmd.Start())
	go func() {
		defer close(v.eof)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			v.began[strings.TrimSpace(lines.Text())] = true
		}
	}()
	return v
}

// sleepThenWake stops the process as if its machine were suspended, and wakes it
// later unless it was killed meanwhile.
func (v *victim) sleepThenWake(t *testing.T, d time.Duration) {
	t.Helper()
	require.NoError(t, v.cmd.Process.Signal(syscall.SIGSTOP))
	time.AfterFunc(d, func() { _ = v.cmd.Process.Signal(syscall.SIGCONT) })
}

// kill ends the process with SIGKILL and returns how many of its jobs had begun
// and were not completed.
func (v *victim) kill(t *testing.T, env *jobstest.Env) int {
	t.Helper()
	require.NoError(t, v.cmd.Process.Kill())
	<-v.eof
	_ = v.cmd.Wait()
	var completed []string
	rows, err := env.Pool.Query(context.Background(), `SELECT job_uid::text FROM headgate.outcomes WHERE worker = $1`, v.id)
	require.NoError(t, err)
	completed, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, uid := range completed {
		delete(v.began, uid)
	}
	return len(v.began)
}

// Fifty worker processes are killed with SIGKILL while transfers run: each
// transfer has its effect once. The same transfers without the ledger double.
func TestKilledWorkersDoubleNothing(t *testing.T) {
	t.Parallel()
	env, tenants, key := newBank(t)
	env.Work(ptr(killConfig(withQueue(env.Config(), "survivor"))), func(w *worker.Worker) {
		registerKillKinds(w, func(string) {}) // leads the queue's maintenance; works nothing
	})

	accepted := make(chan map[string]order, 1)
	go func() { accepted <- openLoop(t, env, tenants) }()

	victims := make([]*victim, killWorkers)
	for i := range victims {
		victims[i] = newVictim(t, env, key, fmt.Sprintf("victim-%d", i))
	}
	inWindow, jobsInWindow, stops := 0, 0, 0
	tick := time.NewTicker(killEvery)
	defer tick.Stop()
	for n := range kills {
		<-tick.C
		i := n % killWorkers
		if n%5 == 4 { // one of five is put to sleep first, long enough to be taken for dead
			stops++
			victims[i].sleepThenWake(t, 3*time.Second)
			i = (i + 1) % killWorkers
		}
		if hit := victims[i].kill(t, env); hit > 0 {
			inWindow++
			jobsInWindow += hit
		}
		victims[i] = newVictim(t, env, key, fmt.Sprintf("victim-%d", n+killWorkers))
	}
	list := <-accepted
	waitUntilDone(t, env)
	for _, v := range victims {
		v.kill(t, env)
	}

	t.Logf("%d kills, %d of them between begin_job and completion, with %d jobs; %d processes stopped for 3 s and woken", kills, inWindow, jobsInWindow, stops)
	require.GreaterOrEqual(t, inWindow, 10, "too few kills fell between begin_job and completion to prove anything")
	var innocent int
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM headgate.outcomes WHERE class = 'quarantined'`).Scan(&innocent))
	require.Zero(t, innocent, "innocent jobs in quarantine")
	doubled, missing := audit(t, env, tenants, list, "slow-transfer")
	require.Zero(t, doubled, "transfers whose effect happened twice")
	require.Zero(t, missing, "transfers whose effect never happened")
	replay(t, tenants, list)
	var attempts, quarantined, lost int
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT max(attempt), count(*) FILTER (WHERE class = 'quarantined'), count(*) FILTER (WHERE class = 'lost_worker')
FROM headgate.outcomes WHERE kind = 'slow-transfer'`).Scan(&attempts, &quarantined, &lost))
	t.Logf("%d attempts were lost with their workers", lost)
	require.Equal(t, 1, attempts, "a death used an attempt")
	require.Zero(t, quarantined, "an innocent job was put in quarantine")

	bareDoubled, _ := audit(t, env, tenants, list, "bare-transfer")
	t.Logf("without the ledger: %d of %d doubled", bareDoubled, bares)
	require.NotZero(t, bareDoubled, "the control did not double, so these kills prove nothing")
}

// A job that kills its worker is put in quarantine after it has done so twice
// alone; fifty neighbours, whose workers it took with it, lose no attempt.
func TestAPoisonedJobIsQuarantined(t *testing.T) {
	t.Parallel()
	env, tenants, key := newBank(t)
	ctx := context.Background()
	env.Work(ptr(killConfig(withQueue(env.Config(), "survivor"))), func(w *worker.Worker) {
		registerKillKinds(w, func(string) {})
	})
	var neighbours []string
	enqueue := func(args jobs.Args) string {
		result, err := env.Client.Enqueue(ctx, tenants[len(neighbours)%len(tenants)].tenant.Slug, args, enqueueTo("killed"))
		require.NoError(t, err)
		return result.UID
	}
	for range 25 {
		neighbours = append(neighbours, enqueue(SlowTransfer{Transfer: Transfer{From: 1, To: 2, Amount: 1}, MS: 400}))
	}
	poison := enqueue(Poison{})
	for range 25 {
		neighbours = append(neighbours, enqueue(SlowTransfer{Transfer: Transfer{From: 1, To: 2, Amount: 1}, MS: 400}))
	}
	supervising, stop := context.WithCancel(ctx)
	deaths := make(chan int, 2)
	for i := range 2 {
		go func() { deaths <- supervise(supervising, env, key, fmt.Sprintf("supervised-%d", i)) }()
	}
	got := env.WaitFor(poison, func(o jobs.Outcome) bool { return o.State == jobs.Discarded })
	require.Equal(t, jobs.Class("quarantined"), got.Class)
	for _, uid := range neighbours {
		done := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, done.State, done.Message)
		require.Equal(t, 1, done.Attempt)
	}
	stop()
	t.Logf("quarantined after %d deaths in all", <-deaths+<-deaths)
	var together, alone int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT deaths, alone FROM headgate.suspects WHERE quarantined_at IS NOT NULL`).Scan(&together, &alone))
	require.Equal(t, 2, alone)
	// The first death makes it a suspect; one more may have had another suspect in hand.
	require.LessOrEqual(t, together, 5)
}

// supervise keeps one worker process running, as a service manager would, until
// ctx ends, and returns how often it died.
func supervise(ctx context.Context, env *jobstest.Env, key, name string) (deaths int) {
	for {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), envKilled+"="+fmt.Sprintf("%s-%d", name, deaths), envKilledURL+"="+env.URL, "HEADGATE_KEY="+key)
		_ = cmd.Run()
		if ctx.Err() != nil {
			return deaths
		}
		deaths++
	}
}

// bankTenant is a tenant, where it lives, and its accounts: 1 to 5 for transfers
// with the ledger, 6 to 10 for those without.
type bankTenant struct {
	tenant catalog.Tenant
	db     *jobstest.Database
}

// newBank makes 20 tenants: 16 in two shared databases, 4 in their own.
func newBank(t *testing.T) (env *jobstest.Env, tenants []bankTenant, key string) {
	t.Helper()
	env = jobstest.New(t)
	key = env.Key
	for d := range 6 {
		kind, n := "dedicated", 1
		if d < 2 {
			kind, n = "shared", 8
		}
		db := env.Database(fmt.Sprintf("bank-%d", d), jobstest.DatabaseOpts{Kind: kind, Schema: schema})
		for range n {
			tenant := env.Tenant(fmt.Sprintf("t%d", len(tenants)), db.Name)
			open(t, db, tenant.OrgID, 10)
			tenants = append(tenants, bankTenant{tenant, db})
		}
	}
	return env, tenants, key
}

// order is what was accepted: who wanted what.
type order struct {
	tenant int
	Transfer
}

// openLoop enqueues at a steady pace, whatever the workers do, and returns what
// was accepted.
func openLoop(t *testing.T, env *jobstest.Env, tenants []bankTenant) map[string]order {
	accepted := map[string]order{}
	pace := time.NewTicker(kills * killEvery / (transfers + bares))
	defer pace.Stop()
	for i := range transfers + bares {
		<-pace.C
		slow := SlowTransfer{Transfer: Transfer{From: 1 + rand.IntN(5), To: 1 + rand.IntN(5), Amount: int64(1 + rand.IntN(9))}, MS: 50 + rand.IntN(450)}
		var args jobs.Args = slow
		if i%3 == 2 {
			slow.From, slow.To = slow.From+5, slow.To+5
			args = BareTransfer(slow)
		}
		result, err := env.Client.Enqueue(context.Background(), tenants[i%len(tenants)].tenant.Slug, args, enqueueTo("killed"))
		if err != nil {
			t.Errorf("enqueueing: %v", err)
			continue
		}
		accepted[result.UID] = order{i % len(tenants), slow.Transfer}
	}
	return accepted
}

// waitUntilDone waits until nothing is left to do in the queue.
func waitUntilDone(t *testing.T, env *jobstest.Env) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE finalized_at IS NULL`).Scan(&left))
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d jobs are still open", left)
		case <-tick.C:
		}
	}
}

// audit counts effects by the job's uid: a sum would be blind to a balanced
// transfer that happened twice.
func audit(t *testing.T, env *jobstest.Env, tenants []bankTenant, accepted map[string]order, kind string) (doubled, missing int) {
	t.Helper()
	ctx := context.Background()
	effects := map[string]int{}
	seen := map[string]bool{}
	for _, bt := range tenants {
		if seen[bt.db.ID] {
			continue
		}
		seen[bt.db.ID] = true
		rows, err := bt.db.Pool.Query(ctx, `SELECT job_uid::text FROM transfers`)
		require.NoError(t, err)
		uids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, uid := range uids {
			effects[uid]++
		}
	}
	rows, err := env.Pool.Query(ctx, `SELECT metadata->>'job_uid' FROM river_job WHERE kind = $1`, kind)
	require.NoError(t, err)
	uids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, uid := range uids {
		require.Contains(t, accepted, uid)
		switch n := effects[uid]; {
		case n == 0:
			missing++
		case n > 1:
			doubled++
		}
	}
	return doubled, missing
}

// replay computes each account of the ledgered transfers from what was accepted
// and compares it with what the tenants' databases hold.
func replay(t *testing.T, tenants []bankTenant, accepted map[string]order) {
	t.Helper()
	ctx := context.Background()
	for i, bt := range tenants {
		want := map[int]int64{1: 1000, 2: 1000, 3: 1000, 4: 1000, 5: 1000}
		for _, o := range accepted {
			if o.tenant == i && o.From <= 5 {
				want[o.From] -= o.Amount
				want[o.To] += o.Amount
			}
		}
		got := map[int]int64{}
		rows, err := bt.db.Pool.Query(ctx, `SELECT id, balance FROM accounts WHERE org_id = $1 AND id <= 5`, bt.tenant.OrgID)
		require.NoError(t, err)
		var id int
		var balance int64
		_, err = pgx.ForEachRow(rows, []any{&id, &balance}, func() error { got[id] = balance; return nil })
		require.NoError(t, err)
		require.Equal(t, want, got, "accounts of tenant %s", bt.tenant.Slug)
	}
}

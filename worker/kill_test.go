package worker_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A dozen worker processes are killed or stopped while transfers run: each
// transfer has its effect once; without the ledger they double. The full size
// is TestFaultsChaos, in the faults tier.
func TestKilledWorkersDoubleNothing(t *testing.T) {
	t.Parallel()
	chaos{
		beat: quickBeat, workers: 3, survivor: true,
		jobs: 130, pace: 45 * time.Millisecond, barePer: 1,
		faults: 12, every: 450 * time.Millisecond, stopShare: 0.2, stopFor: 3 * time.Second,
		inWindow: 4, settle: time.Minute, again: 2 * time.Minute,
	}.run(t)
}

// A job that kills its worker is put in quarantine after it has done so three
// times alone; fifty neighbours, whose workers it took with it, lose no attempt.
func TestAPoisonedJobIsQuarantined(t *testing.T) {
	t.Parallel()
	env, tenants := newBank(t)
	ctx := context.Background()
	env.Work(ptr(beatEvery(withQueue(env.Config(), "survivor"), quickBeat)), func(w *worker.Worker) {
		registerVictimKinds(w, func(string) {})
	})
	var neighbours []string
	enqueue := func(args jobs.Args) string {
		result, err := env.Client.Enqueue(ctx, tenants[len(neighbours)%len(tenants)].tenant.Slug, args, enqueueTo(victimQueue))
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
		go func() { deaths <- supervise(supervising, env, fmt.Sprintf("supervised-%d", i)) }()
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
	require.Equal(t, 3, alone)
	// The second death makes it a suspect; more may have had another suspect in hand.
	require.LessOrEqual(t, together, 7)
}

// The jobs of a lost worker start again at once, all of them: they do not wait
// for each other because each is under suspicion.
func TestALostWorkersLongJobsStartTogether(t *testing.T) {
	t.Parallel()
	env, tenants := newBank(t)
	ctx := context.Background()
	var uids []string
	for i := range 8 {
		result, err := env.Client.Enqueue(ctx, tenants[i].tenant.Slug, SlowTransfer{Transfer: Transfer{From: 1, To: 2, Amount: 1}, MS: 3000}, enqueueTo(victimQueue))
		require.NoError(t, err)
		uids = append(uids, result.UID)
	}
	v := newVictim(t, env, "victim", quickBeat)
	for range uids {
		receive(t, v.began)
	}
	v.kill(t, env)
	cfg := beatEvery(env.Config(), quickBeat)
	cfg.Queues = map[string]int{victimQueue: 8}
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	var first, last time.Time
	for _, uid := range uids {
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		if first.IsZero() || got.StartedAt.Before(first) {
			first = got.StartedAt
		}
		if got.StartedAt.After(last) {
			last = got.StartedAt
		}
	}
	t.Logf("8 jobs of 3 s started again within %s of each other", last.Sub(first).Round(time.Millisecond))
	require.Less(t, last.Sub(first), 3*time.Second, "they ran one after the other")
}

// What a dead worker's job had under way ends in the server before others begin
// with the job: it would be work beyond the server's budget.
func TestADeadWorkersStatementsEnd(t *testing.T) {
	t.Parallel()
	env, tenants := newBank(t)
	ctx := context.Background()
	bank := tenants[0]
	watched := SlowTransfer{Transfer: Transfer{From: 1, To: 2, Amount: 1}, MS: 60_000}
	for _, args := range []jobs.Args{watched, BareTransfer(watched)} { // the second's connection is its own: the control
		_, err := env.Client.Enqueue(ctx, bank.tenant.Slug, args, enqueueTo(victimQueue))
		require.NoError(t, err)
	}
	asleep := func(n int) []string {
		var who []string
		require.Eventually(t, func() bool {
			rows, err := env.Pool.Query(ctx, `SELECT application_name FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'`, bank.db.Job.Database)
			require.NoError(t, err)
			who, err = pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			return len(who) == n
		}, 20*time.Second, 10*time.Millisecond)
		return who
	}
	v := newVictim(t, env, "victim", quickBeat)
	asleep(2)
	v.kill(t, env)
	began := time.Now()
	left := asleep(1) // long before it would have ended by itself
	t.Logf("over after %s, dead workers are known after %s", time.Since(began).Round(time.Millisecond), 4*quickBeat)
	require.NotContains(t, left[0], SlowTransfer{}.Kind(), "the control is what must go on")
}

// Every form of work has the server look for its worker.
func TestEveryJobsSessionLooksForItsWorker(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Tenant("acme", env.Database("acme", jobstest.DatabaseOpts{}).Name)
	cfg := beatEvery(env.Config(), quickBeat)
	env.Work(&cfg, func(w *worker.Worker) {
		every := func(ctx context.Context, ask func(context.Context, string, ...any) pgx.Row, info *jobs.Info) error {
			return ask(ctx, `SELECT current_setting('client_connection_check_interval')`).Scan(&info.Result.Output)
		}
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Transfer]) error {
			return every(ctx, tx.QueryRow, &job.Info)
		})
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Late]) error {
			return every(ctx, tx.QueryRow, &job.Info)
		})
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Sum]) error {
			return every(ctx, tx.QueryRow, &job.Info)
		})
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[again]) error {
			return every(ctx, conn.QueryRow, &job.Info)
		})
	})
	for _, args := range []jobs.Args{Transfer{}, Late{}, Sum{}, again{}} {
		got := env.Run("acme", args)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, quickBeat.String(), got.Result.Output, args.Kind())
	}
}

// supervise keeps one worker process running, as a service manager would, until
// ctx ends, and returns how often it died.
func supervise(ctx context.Context, env *jobstest.Env, name string) (deaths int) {
	for {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), envVictim+"="+fmt.Sprintf("%s-%d", name, deaths), envVictimURL+"="+env.URL, "HEADGATE_KEY="+env.Key, envVictimBeat+"="+quickBeat.String())
		_ = cmd.Run()
		if ctx.Err() != nil {
			return deaths
		}
		deaths++
	}
}

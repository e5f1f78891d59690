package worker_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/signal"
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

// Invoice is a kind that every build knows; Reminder came with the new one.
type (
	Invoice  struct{ MS int }
	Reminder struct{ MS int }
)

func (Invoice) Kind() string  { return "invoice" }
func (Reminder) Kind() string { return "reminder" }

const (
	envDeployed    = "HEADGATE_TEST_DEPLOYED" // "old" or "new"; makes this binary a worker of that build
	envDeployedID  = "HEADGATE_TEST_DEPLOYED_ID"
	envDeployedURL = "HEADGATE_TEST_DEPLOYED_URL"
)

// deployedWorker is the main function of one build of a worker program.
func deployedWorker() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv(envDeployedURL))
	if err != nil {
		return err
	}
	defer pool.Close()
	cat, err := catalog.Open(ctx, pool)
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{
		Pool: pool, Resolver: cat, ID: os.Getenv(envDeployedID), Queues: map[string]int{"default": 8},
		FetchCooldown: 5 * time.Millisecond, PollInterval: 100 * time.Millisecond, StopTimeout: 5 * time.Second,
		HeartbeatEvery: 200 * time.Millisecond, DeadAfter: 3 * time.Second,
	})
	if err != nil {
		return err
	}
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Invoice]) error {
		return bill(ctx, tx, job.Info, job.Args.MS)
	})
	if os.Getenv(envDeployed) == "new" {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Reminder]) error {
			return bill(ctx, tx, job.Info, job.Args.MS)
		})
	}
	return w.Run(ctx)
}

// bill takes its time and leaves a line with the job's name.
func bill(ctx context.Context, tx pgx.Tx, info jobs.Info, ms int) error {
	if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, float64(ms)/1000); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, $3)`, info.Tenant.OrgID, info.UID, ms)
	return err
}

// deployed is a running worker process.
type deployed struct {
	id     string
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// deploy starts one and waits until it is at work.
func deploy(t *testing.T, env *jobstest.Env, build, id string) *deployed {
	t.Helper()
	d := &deployed{id: id, cmd: exec.Command(os.Args[0])}
	d.cmd.Env = append(os.Environ(), envDeployed+"="+build, envDeployedID+"="+id, envDeployedURL+"="+env.URL, "HEADGATE_KEY="+env.Key)
	d.cmd.Stderr = &d.stderr
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() { _ = d.cmd.Process.Kill() }) // of a test that failed
	awaitTrue(t, env, id+" is at work", `SELECT EXISTS (SELECT FROM headgate.workers WHERE worker = $1 AND ended_at IS NULL)`, id)
	return d
}

// retire stops it as a service manager would.
func (d *deployed) retire(t *testing.T) {
	t.Helper()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, d.cmd.Wait(), "%s: %s", d.id, &d.stderr)
}

func awaitTrue(t *testing.T, env *jobstest.Env, what, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for is := false; ; {
		require.NoError(t, env.Pool.QueryRow(ctx, sql, args...).Scan(&is), what)
		if is {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// openEnqueueing enqueues both kinds by turns at a steady pace, whatever the
// workers do, at least n jobs in all and until done is closed.
func openEnqueueing(t *testing.T, env *jobstest.Env, n int, done <-chan struct{}) (accepted int) {
	pace := time.NewTicker(6 * time.Millisecond)
	defer pace.Stop()
	for open := true; open || accepted < n; {
		select {
		case <-done:
			open, done = false, nil
		case <-pace.C:
			var args jobs.Args = Invoice{MS: 20 + accepted%30}
			if accepted%2 == 1 {
				args = Reminder{MS: 20 + accepted%30}
			}
			if _, err := env.Client.Enqueue(context.Background(), "acme", args, nil); err != nil {
				t.Errorf("enqueueing: %v", err)
				return accepted
			}
			accepted++
		}
	}
	return accepted
}

// Two worker processes are replaced one by one, from a build that does not know
// one of the two kinds to one that does, and back, while both are enqueued. The
// leader is of the old build at the beginning and at the end. No job is lost,
// discarded or loses an attempt; what only the new build knows waits for it.
func TestRollingDeploy(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	count := func(sql string) (n int) {
		t.Helper()
		require.NoError(t, env.Pool.QueryRow(ctx, sql).Scan(&n))
		return n
	}
	const remindersDone = `SELECT count(*) FROM river_job WHERE kind = 'reminder' AND state = 'completed'`

	// A reminder that a new worker had in hand when its machine was lost: nobody
	// that is left knows the kind.
	lost, err := env.Client.Enqueue(ctx, "acme", Reminder{MS: 1}, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '2 hours',
    attempted_by = ARRAY['0190aaaa-0000-7000-8000-000000000001:7'] WHERE id = $1`, env.RowOf(lost.UID))
	require.NoError(t, err)

	old1 := deploy(t, env, "old", "old-1")
	old2 := deploy(t, env, "old", "old-2")
	done := make(chan struct{})
	accepted := 1
	var enqueueing sync.WaitGroup
	enqueueing.Go(func() { accepted += openEnqueueing(t, env, 500, done) })
	leader := func() {
		t.Helper()
		awaitTrue(t, env, "an old worker leads", `SELECT EXISTS (SELECT FROM river_leader WHERE leader_id LIKE 'old-%' AND expires_at > now())`)
	}
	leader()
	awaitTrue(t, env, "the lost reminder is given back", `SELECT state = 'available' AND attempt = 0 FROM river_job WHERE id = $1`, env.RowOf(lost.UID))
	awaitTrue(t, env, "old workers work", `SELECT count(*) >= 20 FROM river_job WHERE kind = 'invoice' AND state = 'completed'`)
	require.Zero(t, count(remindersDone), "while there are only old workers")
	require.Zero(t, count(`SELECT count(*) FROM river_job WHERE kind = 'reminder' AND attempted_at IS NOT NULL AND attempted_at > now() - interval '1 hour'`))

	new1 := deploy(t, env, "new", "new-1")
	old1.retire(t)
	new2 := deploy(t, env, "new", "new-2")
	old2.retire(t)
	awaitTrue(t, env, "new workers work off what has waited", `SELECT count(*) >= 50 FROM river_job WHERE kind = 'reminder' AND state = 'completed'`)

	old3 := deploy(t, env, "old", "old-3")
	new1.retire(t)
	old4 := deploy(t, env, "old", "old-4")
	new2.retire(t)
	before, waiting := count(remindersDone), count(`SELECT count(*) FROM river_job WHERE kind = 'reminder' AND state = 'available'`)
	invoices := count(`SELECT count(*) FROM river_job WHERE kind = 'invoice' AND state = 'completed'`)
	awaitTrue(t, env, "reminders pile up while invoices go on", `SELECT count(*) FILTER (WHERE kind = 'reminder' AND state = 'available') > $1
    AND count(*) FILTER (WHERE kind = 'invoice' AND state = 'completed') > $2 FROM river_job`, waiting+10, invoices+10)
	require.Equal(t, before, count(remindersDone), "old workers alone do no reminders")
	leader()
	close(done)
	enqueueing.Wait()

	new3 := deploy(t, env, "new", "new-3")
	awaitTrue(t, env, "all is done", `SELECT NOT EXISTS (SELECT FROM river_job WHERE finalized_at IS NULL)`)
	for _, d := range []*deployed{old3, old4, new3} {
		d.retire(t)
	}
	var summary string
	require.NoError(t, env.Pool.QueryRow(ctx, `
SELECT string_agg(DISTINCT concat_ws(' ', state, attempt, coalesce(array_length(errors, 1), 0)), ', ') FROM river_job`).Scan(&summary))
	require.Equal(t, "completed 1 0", summary, "every job: completed, at its first attempt, without an error")
	require.Equal(t, accepted, count(`SELECT count(*) FROM river_job`))
	require.Equal(t, 1, count(`SELECT count(*) FROM headgate.outcomes WHERE state <> 'succeeded'`), "only the lost one was given back")
	require.Zero(t, count(`SELECT count(*) FROM headgate.suspects`))
	var effects, distinct int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*), count(DISTINCT job_uid) FROM transfers`).Scan(&effects, &distinct))
	require.Equal(t, []int{accepted, accepted}, []int{effects, distinct})
	t.Logf("%d jobs; %d reminders done and %d waiting when the last new worker went", accepted, before, waiting)
}

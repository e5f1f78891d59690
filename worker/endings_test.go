package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker"
)

// Ending is a job that ends as it is told.
type Ending struct {
	How string `json:"how"`
}

func (Ending) Kind() string { return "ending" }

func (Ending) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 3, Timeout: time.Minute} // a busy machine has time to end
}

// opts are those of its request: one that waits for the attempt's time has little of it.
func (e Ending) opts() *jobs.EnqueueOpts {
	if e.How == "timeout" {
		return &jobs.EnqueueOpts{Timeout: 2 * time.Second}
	}
	return nil
}

func end(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
	// Whatever the end, this row must stand only if the job succeeded.
	_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`, job.Tenant.OrgID, job.UID)
	if err != nil {
		return err
	}
	switch job.Args.How {
	case "error":
		return errors.New("no such invoice")
	case "panic":
		panic("index out of range")
	case "cancel":
		return jobs.Cancel(errors.New("the customer left"))
	case "snooze once":
		if _, err := tx.Exec(ctx, `SELECT 1`); err != nil || time.Since(job.EnqueuedAt) > 100*time.Millisecond {
			return err
		}
		return jobs.Snooze(120 * time.Millisecond)
	case "timeout":
		_, err := tx.Exec(ctx, `SELECT pg_sleep(30)`)
		return err
	case "statement timeout":
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '20ms'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT pg_sleep(30)`)
		return err
	case "lock timeout":
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '20ms'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(77)`)
		return err
	case "fail twice":
		if job.Attempt < 3 {
			return errors.New("not yet")
		}
	case "bad sql, hidden":
		_, _ = tx.Exec(ctx, `SELECT 1/0`)
	case "commit":
		return tx.Commit(ctx)
	case "nul":
		return errors.New("a byte \x00 and \xff that no column takes")
	}
	return nil
}

func TestEndings(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })
	for _, c := range []struct {
		how      string
		state    jobs.State
		class    jobs.Class
		message  string
		attempts int
	}{
		{"", jobs.Succeeded, "", "", 1},
		{"fail twice", jobs.Succeeded, "", "", 3},
		{"snooze once", jobs.Succeeded, "", "", 1},
		{"error", jobs.Discarded, jobs.ClassJobError, "no such invoice", 3},
		{"panic", jobs.Discarded, jobs.ClassPanic, "the handler panicked: index out of range", 3},
		{"cancel", jobs.Cancelled, "", "the customer left", 1},
		{"timeout", jobs.Discarded, jobs.ClassTimeout, "", 3},
		{"statement timeout", jobs.Discarded, jobs.ClassStatementTimeout, "57014", 3},
		{"bad sql, hidden", jobs.Discarded, jobs.ClassJobError, "its error was not returned", 3},
		{"commit", jobs.Discarded, jobs.ClassJobError, "may not end its transaction", 3},
		{"nul", jobs.Discarded, jobs.ClassJobError, "a byte", 3},
	} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			job, err := env.Client.Enqueue(t.Context(), "acme", Ending{How: c.how}, Ending{How: c.how}.opts())
			require.NoError(t, err)
			got := env.Wait(job.UID)
			require.Equal(t, c.state, got.State, got.Message)
			require.Equal(t, c.class, got.Class, got.Message)
			require.Contains(t, got.Message, c.message)
			require.Equal(t, c.attempts, got.Attempt)
			if c.how == "panic" {
				require.Contains(t, got.Trace, "worker_test.end")
			}
			var rows int
			require.NoError(t, db.Pool.QueryRow(context.Background(), `SELECT count(*) FROM transfers WHERE job_uid = $1`, got.JobUID).Scan(&rows))
			want := 0
			if c.state == jobs.Succeeded {
				want = 1
			}
			require.Equal(t, want, rows, "rows of a job that %s", c.state)
		})
	}
}

// A lock may be held by a worker that is gone and whose session is not: a job
// that waits for it in vain waits longer, and uses no attempt.
func TestALockTimeoutUsesNoAttempt(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	locker, err := db.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer locker.Release()
	_, err = locker.Exec(ctx, `SELECT pg_advisory_lock(77)`)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })
	job, err := env.Client.Enqueue(ctx, "acme", Ending{How: "lock timeout"}, nil)
	require.NoError(t, err)
	held := env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Class == jobs.ClassLockTimeout }) // a connection may have come too late before
	require.Equal(t, jobs.Snoozed, held.State)
	require.Equal(t, "55P03", held.SQLState)
	_, err = locker.Exec(ctx, `SELECT pg_advisory_unlock(77)`)
	require.NoError(t, err)
	done := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, done.State)
	require.Equal(t, 1, done.Attempt)
}

// A job whose ledger row is done succeeds without running again, with the
// result that the first run stored.
func TestDoneInTheLedgerIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", Ending{How: "panic"}, nil)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state, result) VALUES ($1, $2, 'done', '{"rows": 7, "output": "before"}')`, acme.OrgID, result.UID)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })

	got := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.True(t, got.Recovered)
	require.Equal(t, jobs.Result{Rows: 7, Output: "before"}, got.Result)
}

// A tombstone in the ledger stops a job for good.
func TestTombstone(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state) VALUES ($1, $2, 'tombstone')`, acme.OrgID, result.UID)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })

	got := env.Wait(result.UID)
	require.Equal(t, jobs.Cancelled, got.State)
	require.Equal(t, jobs.ClassTombstone, got.Class)
}

// While another attempt's transaction is open the job steps back, uses no
// attempt, and runs when the other one is gone.
func TestAnOpenAttemptHoldsTheJob(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	other, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = other.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid) VALUES ($1, $2)`, acme.OrgID, result.UID)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.LockTimeout = 50 * time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })

	held := env.WaitFor(result.UID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Equal(t, jobs.Class("conflict"), held.Class)
	require.NoError(t, other.Rollback(ctx))
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt)
}

// Arguments that do not fit the kind any more fail with a class of their own.
func TestBadArgs(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })
	result, err := env.Client.Enqueue(context.Background(), "acme", oldEnding{How: 7}, nil)
	require.NoError(t, err)
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Discarded, got.State)
	require.Equal(t, jobs.ClassBadArgs, got.Class)
	require.Contains(t, got.Message, "do not fit kind ending: how is a number")
	require.NotContains(t, got.Message, "Go ", "it is read by people who have not written the program")
}

// oldEnding is the kind as an older program knew it.
type oldEnding struct {
	How int `json:"how"`
}

func (oldEnding) Kind() string { return "ending" }

func (oldEnding) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1} }

// Stop lets go of a running job without using an attempt; another worker does it.
func TestStopGivesTheJobBack(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	began := make(chan struct{}, 1)
	cfg := env.Config()
	cfg.StopTimeout = 10 * time.Millisecond
	first := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Ending]) error {
			began <- struct{}{}
			_, err := tx.Exec(ctx, `SELECT pg_sleep(30)`)
			return err
		})
	})
	result, err := env.Client.Enqueue(context.Background(), "acme", Ending{}, nil)
	require.NoError(t, err)
	<-began
	require.NoError(t, first.Stop(context.Background()))
	require.NoError(t, first.Stop(context.Background()), "Stop may be called twice")

	attempts, err := env.Attempts(context.Background(), result.UID)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	require.Equal(t, jobs.Snoozed, attempts[0].State)
	require.Equal(t, jobs.ClassInterrupted, attempts[0].Class)

	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, end) })
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, got.State)
	require.Equal(t, 1, got.Attempt)
}

// Registering what makes no sense is an error of Start that says what.
func TestStartRefuses(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	start := func(cfg worker.Config, register func(*worker.Worker)) string {
		w, err := worker.New(cfg)
		if err != nil {
			return err.Error()
		}
		register(w)
		err = w.Start(context.Background())
		require.Error(t, err)
		return err.Error()
	}
	cfg := env.Config()
	require.Contains(t, start(cfg, func(*worker.Worker) {}), "no kind is registered")
	require.Contains(t, start(cfg, func(w *worker.Worker) { worker.InTx(w, end); worker.InTx(w, end) }), `kind "ending": it is registered twice`)
	cfg.DeadAfter = time.Millisecond
	require.Contains(t, start(cfg, nil), `DeadAfter "1ms": give at least three heartbeats`)
	cfg.DeadAfter = 0
	_, err := env.Pool.Exec(context.Background(), `INSERT INTO headgate.migrations (version, name, serves) VALUES (99, 'far ahead', 99)`)
	require.NoError(t, err)
	require.Contains(t, start(cfg, func(w *worker.Worker) { worker.InTx(w, end) }), "upgrade headgate")
	cfg.Pool = nil
	require.Contains(t, start(cfg, nil), "Config.Pool is missing")
	cfg = env.Config()
	cfg.Queues = map[string]int{"default": 0}
	require.True(t, strings.Contains(start(cfg, nil), `Queues["default"] is 0`))
	for _, name := range []string{"", "BAD Q", "a\x00", strings.Repeat("q", 200)} {
		cfg.Queues = map[string]int{name: 1}
		_, err := worker.New(cfg)
		require.ErrorAs(t, err, new(*jobs.InputError), "%q", name)
		require.ErrorContains(t, err, "worker.Config.Queues: queue")
	}
}

// The options of one job reach its handler.
func TestOptionsReachTheHandler(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	got := make(chan jobs.Info, 1)
	trace := make(chan string, 1)
	cfg := env.Config()
	cfg.Queues = map[string]int{"quick": 1}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			got <- job.Info
			trace <- telemetry.TraceParent(ctx)
			tenant, err := jobs.TenantFrom(ctx)
			require.NoError(t, err)
			require.Equal(t, acme.ID, tenant)
			_, err = tx.Exec(ctx, `INSERT INTO transfers VALUES (1, gen_random_uuid(), 1, 1, 1)`)
			return err // 25006: a read-only job writes nothing
		})
	})
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := telemetry.WithTraceParent(jobs.WithTenant(context.Background(), "acme"), parent)
	result, err := env.Client.Enqueue(ctx, "", Ending{}, &jobs.EnqueueOpts{
		Queue: "quick", Priority: 2, Tags: []string{"billing"}, MaxAttempts: 7, Timeout: 5 * time.Second,
	})
	require.NoError(t, err)
	info := <-got
	require.Equal(t, result.UID, info.UID)
	require.Equal(t, []string{"billing"}, info.Tags)
	require.Equal(t, 7, info.MaxAttempts)
	require.Equal(t, "quick", info.Queue)
	require.Equal(t, "acme", info.Tenant.Slug)
	require.Equal(t, "acme", info.Database)
	require.Equal(t, parent, <-trace)
	held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, "25006", held.SQLState)
}

// A Stop that has no time to wait stops the worker all the same: no claim begins from then
// on, and what runs may end. The next Stop waits for that. The worker has one slot, which
// the first job fills, so that no claim is under way when Stop is called, and the end of
// that job asks for the next claim.
func TestStopWithoutTimeToWait(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	begun, goOn := make(chan struct{}, 2), make(chan struct{})
	cfg := env.Config()
	cfg.Queues = map[string]int{"default": 1}
	w, err := worker.New(cfg)
	require.NoError(t, err)
	worker.NoConn(w, func(ctx context.Context, _ *jobs.Job[Pausing]) error {
		begun <- struct{}{}
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	require.NoError(t, w.Start(ctx))
	first, err := env.Client.Enqueue(ctx, "acme", Pausing{}, nil)
	require.NoError(t, err)
	<-begun
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, w.Stop(ended), context.Canceled)
	second, err := env.Client.Enqueue(ctx, "acme", Pausing{}, nil)
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx) }()
	close(goOn)
	require.NoError(t, <-stopped)
	require.Equal(t, jobs.Succeeded, env.Wait(first.UID).State)
	after, err := env.Client.Job(ctx, second.UID)
	require.NoError(t, err)
	require.Equal(t, jobs.Waiting, after.State)
	require.NoError(t, w.Start(ctx), "it works again")
	require.Equal(t, jobs.Succeeded, env.Wait(second.UID).State)
	require.NoError(t, w.Stop(ctx))
}

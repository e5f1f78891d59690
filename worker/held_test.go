package worker_test

import (
	"context"
	"fmt"
	"math/bits"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// SQL is a job that runs a statement.
type SQL struct {
	Text string `json:"text"`
}

func (SQL) Kind() string            { return "sql_text" }
func (SQL) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 2} }

func runSQL(ctx context.Context, tx pgx.Tx, job *jobs.Job[SQL]) error {
	_, err := tx.Exec(ctx, job.Args.Text)
	return err
}

// What a handler can provoke for ever uses no attempt at first, and then it does:
// each class that waits although the handler had begun ends its job by the bound.
func TestEndsThatUseNoAttemptAreBounded(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema + `; CREATE TABLE secret (id int)`})
	env.Tenant("acme", "acme")
	locker, err := db.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer locker.Release()
	_, err = locker.Exec(ctx, `SELECT pg_advisory_lock(77)`)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.UnblamedMost, cfg.HoldFor = 4, 10*time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, runSQL)
		worker.NoConn(w, func(context.Context, *jobs.Job[CallingOut]) error {
			return &jobs.OutputError{Err: fmt.Errorf("no space left")}
		})
	})
	for class, args := range map[jobs.Class]jobs.Args{
		jobs.ClassInterrupted:  SQL{`SELECT pg_terminate_backend(pg_backend_pid())`},
		jobs.ClassConflict:     SQL{`DO $$ BEGIN RAISE 'x' USING ERRCODE = '40001'; END $$`},
		jobs.ClassNotPermitted: SQL{`SELECT * FROM secret`},
		jobs.ClassLockTimeout:  SQL{`DO $$ BEGIN PERFORM set_config('lock_timeout', '10ms', true); PERFORM pg_advisory_xact_lock(77); END $$`},
		jobs.ClassOutput:       CallingOut{},
	} {
		t.Run(string(class), func(t *testing.T) {
			end := env.Run("acme", args)
			require.Equal(t, jobs.Discarded, end.State, end.Message)
			require.Equal(t, class, end.Class, end.Message)
			require.Contains(t, end.Message, "this is the 6. end in a row")
			attempts, err := env.Attempts(ctx, end.JobUID)
			require.NoError(t, err)
			require.Len(t, attempts, 4+2, "four without an attempt, then two of two")
		})
	}
}

// What ends attempts before their handler has begun may last: no attempt is used
// however often, the history keeps few of its ends, explain says how many there
// were and since when, and the count is gone when the job has ended.
func TestAServerThatIsAwayForLong(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, Observed: "a function of Headgate's has another name"})
	env.Tenant("acme", "acme")
	rename := func(from, to string) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, fmt.Sprintf(`ALTER FUNCTION headgate.%s RENAME TO %s`, from, to))
		require.NoError(t, err)
	}
	rename("begin_job", "begin_nothing")
	cfg := env.Config()
	cfg.UnblamedMost, cfg.HoldFor = 2, 5*time.Millisecond
	cfg.HoldMost = cfg.HoldFor
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, runSQL) })
	r, err := env.Client.Enqueue(ctx, "acme", SQL{`SELECT 1`}, nil)
	require.NoError(t, err)
	job, err := env.Client.Job(ctx, r.UID)
	require.NoError(t, err)
	for deadline := time.Now().Add(30 * time.Second); job.Held == nil || job.Held.Times < 20; {
		require.True(t, time.Now().Before(deadline), "%+v", job.Held)
		job, err = env.Client.Job(ctx, r.UID)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(job.Attempts), bits.Len(uint(job.Held.Times))+1)
	require.Equal(t, jobs.ClassInterrupted, job.Held.Class)
	require.Zero(t, job.Held.Begun)
	said := regexp.MustCompile(`its last \d+ attempts ended as interrupted, since 20.* UTC, and used none`)
	for deadline := time.Now().Add(30 * time.Second); ; { // now and then it is running
		facts, err := env.Explain.Explain(ctx, r.UID)
		require.NoError(t, err)
		if said.MatchString(fmt.Sprint(facts)) {
			break
		}
		require.True(t, time.Now().Before(deadline), "%+v", facts)
	}
	rename("begin_nothing", "begin_job")
	done := env.Wait(r.UID)
	require.Equal(t, jobs.Succeeded, done.State, done.Message)
	require.Equal(t, 1, done.Attempt)
	job, err = env.Client.Job(ctx, r.UID)
	require.NoError(t, err)
	require.Nil(t, job.Held)
}

// LateText is a job of a kind that writes nothing before its handler does.
type LateText struct {
	Text string `json:"text"`
}

func (LateText) Kind() string            { return "late_text" }
func (LateText) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1, Optimistic: true} }

// A handler's statement that may not write speaks for the database if a session
// of the worker's own may not either, and for its job alone if it may.
func TestAProbeTellsAReadOnlyServerFromAReadOnlyTransaction(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[LateText]) error {
			_, err := tx.Exec(ctx, job.Args.Text)
			return err
		})
	})
	insert := fmt.Sprintf(`INSERT INTO accounts VALUES (%d, 9, 1)`, acme.OrgID)
	own := env.Run("acme", LateText{`DO $$ BEGIN SET TRANSACTION READ ONLY; ` + insert + `; END $$`})
	require.Equal(t, jobs.Discarded, own.State)
	require.Equal(t, jobs.ClassJobError, own.Class, own.Message)
	require.Equal(t, "25006", own.SQLState)

	alter := fmt.Sprintf(`ALTER ROLE %s IN DATABASE %s `, db.Job.User, db.Job.Database)
	_, err := db.Pool.Exec(ctx, alter+`SET default_transaction_read_only = on`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND datname = current_database()`, db.Job.User)
	require.NoError(t, err)
	r, err := env.Client.Enqueue(ctx, "acme", LateText{insert}, nil)
	require.NoError(t, err)
	held := env.WaitFor(r.UID, func(o jobs.Outcome) bool { return o.Class != jobs.ClassInterrupted }) // by the end of its session
	require.Equal(t, jobs.Snoozed, held.State, held.Message)
	require.Equal(t, jobs.ClassReadOnly, held.Class)
	_, err = db.Pool.Exec(ctx, alter+`RESET default_transaction_read_only`)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, env.Wait(r.UID).State)
}

// A job without a connection has looked at no database: its success says nothing
// about one that refuses work.
func TestAJobWithoutAConnectionClosesNoBreaker(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 2)
	_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.breakers (scope, id, until, allowed, cause, worker, class) VALUES ('database', $1, now() - interval '1 second', 1, 'no writes', 'w', 'read_only')`, db.ID)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[CallingOut]) error { return nil })
		worker.InTx(w, transfer)
	})
	allowed := func() (n int) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT coalesce(max(allowed), 0) FROM headgate.breakers`).Scan(&n))
		return n
	}
	require.Equal(t, jobs.Succeeded, env.Run("acme", CallingOut{}).State)
	require.Equal(t, 1, allowed())
	require.Equal(t, jobs.Succeeded, env.Run("acme", Transfer{From: 1, To: 2, Amount: 1}).State)
	require.Equal(t, 2, allowed(), "one that was there says something")
}

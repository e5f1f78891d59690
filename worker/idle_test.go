package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Idling is a job that leaves its transaction idle for longer than its kind may.
type Idling struct {
	Silent bool `json:"silent"` // it returns without another statement
	Reads  bool `json:"reads"`  // it has not read the last answer to its end by then
}

func (Idling) Kind() string { return "idling" }
func (Idling) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 2, IdleTimeout: 4 * time.Second}
}

// A handler that leaves its transaction idle for longer than IdleTimeout has used
// its attempt, whether it notices or not, and is told which limit it was.
func TestAHandlerThatIdlesTooLong(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Idling]) error {
			var pid int
			if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
				return err
			}
			var rows pgx.Rows
			if job.Args.Reads {
				var err error
				if rows, err = tx.Query(ctx, `SELECT repeat('x', 1000) FROM generate_series(1, 130)`); err != nil {
					return err
				}
				rows.Next()
			}
			for there := true; there; { // a call of somebody's API, say
				if err := db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid).Scan(&there); err != nil {
					return err
				}
			}
			if job.Args.Reads {
				for rows.Next() { // all of them have come
				}
				if err := rows.Err(); err != nil {
					return err
				}
			}
			if job.Args.Silent {
				return nil
			}
			_, err := tx.Exec(ctx, `SELECT 1`)
			return err
		})
	})
	for _, args := range []Idling{{}, {Silent: true}, {Reads: true}, {Silent: true, Reads: true}} {
		r, err := env.Client.Enqueue(ctx, "acme", args, nil)
		require.NoError(t, err)
		first := env.WaitFor(r.UID, func(jobs.Outcome) bool { return true })
		require.Equal(t, jobs.ClassTimeout, first.Class, "%+v: %s", args, first.Message)
		require.Equal(t, jobs.Failed, first.State)
		require.Contains(t, first.Message, "IdleTimeout of 4s")
		require.Equal(t, jobs.Discarded, env.Wait(r.UID).State)
	}
}

// Pausing is a job that pauses for less than it may.
type Pausing struct{}

func (Pausing) Kind() string { return "pausing" }
func (Pausing) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 1, IdleTimeout: 20 * time.Second}
}

// A session that somebody ends while its handler pauses is not the handler's fault, however
// long the pause was.
func TestASessionThatSomebodyEndsIsNotIdle(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	var again atomic.Bool
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Pausing]) error {
			var pid int
			if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil || again.Swap(true) {
				return err
			}
			for paused := false; !paused; { // for more than half of what is allowed
				const sql = `SELECT clock_timestamp() - state_change > interval '10.5 s' FROM pg_stat_activity WHERE pid = $1`
				if err := db.Pool.QueryRow(ctx, sql, pid).Scan(&paused); err != nil {
					return err
				}
			}
			if _, err := db.Pool.Exec(ctx, `SELECT pg_terminate_backend($1)`, pid); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `SELECT 1`)
			return err
		})
	})
	r, err := env.Client.Enqueue(context.Background(), "acme", Pausing{}, nil)
	require.NoError(t, err)
	first := env.WaitFor(r.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.ClassInterrupted, first.Class, first.Message)
	require.Equal(t, jobs.Succeeded, env.Wait(r.UID).State)
}

package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker"
)

// A handler with a connection of its own may reset its session: the worker names the
// organisation again when it marks the job done, or takes its claim back.
func TestAHandlerMayResetItsSession(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	reset := func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `RESET ALL`)
		return err
	}
	env.Work(nil, func(w *worker.Worker) {
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, _ *jobs.Job[again]) error { return reset(ctx, conn) })
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, _ *jobs.Job[onlyOnce]) error {
			if err := reset(ctx, conn); err != nil {
				return err
			}
			return jobs.Snooze(time.Hour)
		})
	})
	got := env.Run("acme", again{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	rows := func(uid, state string) (n int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE job_uid = $1 AND state LIKE $2`, uid, state).Scan(&n))
		return n
	}
	require.Equal(t, 1, rows(got.JobUID, "done"))

	later, err := env.Client.Enqueue(ctx, "acme", onlyOnce{}, nil)
	require.NoError(t, err)
	o := env.WaitFor(later.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, o.State, o.Message)
	require.Zero(t, rows(later.UID, "%"), "its claim is taken back")
}

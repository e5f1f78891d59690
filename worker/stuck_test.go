package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Deaf is a job that does not watch its context.
type Deaf struct{}

func (Deaf) Kind() string { return "deaf" }

func (Deaf) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 1, Timeout: 3 * time.Second}
}

// A handler that ignores the end of its context loses its slot, and its attempt
// ends without it; it can commit nothing afterwards. Too many, and the worker
// drains and says that its process should be replaced.
func TestStuckHandlers(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 2)
	ctx := context.Background()
	cfg := env.Config()
	cfg.Queues = map[string]int{"default": 1}
	cfg.StuckAfter, cfg.MaxStuck = 100*time.Millisecond, 1
	w, err := worker.New(cfg)
	require.NoError(t, err)
	deaf, returned := make(chan struct{}), make(chan error, 2)
	hear := sync.OnceFunc(func() { close(deaf) })
	t.Cleanup(hear) // also if the test fails: the worker's end waits for its handlers
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Deaf]) error {
		<-deaf
		_, err := tx.Exec(context.WithoutCancel(ctx), `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`, job.Tenant.OrgID, job.UID)
		returned <- err
		return nil
	})
	worker.InTx(w, transfer)
	run := make(chan error, 1)
	go func() { run <- w.Run(ctx) }()

	first := env.Run("acme", Deaf{})
	require.Equal(t, jobs.Discarded, first.State, "an attempt is used, or it would come back for ever")
	require.Equal(t, jobs.ClassTimeout, first.Class)
	require.Contains(t, first.Message, "make it watch ctx.Done()")
	require.Equal(t, jobs.Succeeded, env.Run("acme", Transfer{From: 1, To: 2, Amount: 1}).State, "the only slot is free again")
	require.Equal(t, jobs.Discarded, env.Run("acme", Deaf{}).State)
	select {
	case err := <-run:
		require.ErrorIs(t, err, worker.ErrStuck)
	case <-time.After(20 * time.Second):
		t.Fatal("the worker did not drain")
	}
	hear()
	require.NoError(t, <-returned, "its transaction was still open")
	require.NoError(t, <-returned)
	var rows int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM transfers WHERE job_uid = $1`, first.JobUID).Scan(&rows))
	require.Zero(t, rows, "what a stuck handler did was committed")
}

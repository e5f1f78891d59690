package worker_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// The thread through all rooms: one job from Enqueue to a committed row in its
// tenant's database, and its outcome in the centre.
func TestOneJob(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 2)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, transfer) })

	outcome := env.Run("acme", Transfer{From: 1, To: 2, Amount: 10})

	require.Equal(t, jobs.Succeeded, outcome.State, outcome.Message)
	require.EqualValues(t, 3, outcome.Result.Rows)
	require.Equal(t, acme.ID, outcome.TenantID)
	require.Equal(t, db.ID, outcome.DatabaseID)
	require.Equal(t, 1, outcome.Attempt)

	ctx := context.Background()
	var balance int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 2`).Scan(&balance))
	require.Equal(t, 1010, balance)
	var state string
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT state FROM headgate.ledger WHERE job_uid = $1 AND org_id = $2`, outcome.JobUID, acme.OrgID).Scan(&state))
	require.Equal(t, "done", state)

	job, err := env.Client.Job(ctx, outcome.JobUID)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, job.State)
	require.Equal(t, "acme", job.Tenant)
	require.Len(t, job.Attempts, 1)
}

package worker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Receipt asks for the mail that tells of it.
type Receipt struct {
	How string `json:"how"`
}

func (Receipt) Kind() string { return "receipt" }

type Mail struct {
	To string `json:"to"`
}

func (Mail) Kind() string { return "mail" }

func (Mail) KindOpts() jobs.KindOpts { return jobs.KindOpts{Priority: 2} }

// What a handler asks for is in the queue once when its job has succeeded, and
// never if it has not.
func TestFollowUps(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	// An attempt that committed in the tenant's database and died before it told
	// the centre.
	lost, err := env.Client.Enqueue(ctx, "acme", Receipt{}, nil)
	require.NoError(t, err)
	const mail = "0190aaaa-0000-7000-8000-0000000000f1"
	_, err = db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state, result, done_at) VALUES ($1, $2, 'done',
		'{"rows": 1, "follow_ups": [{"uid": "`+mail+`", "kind": "mail", "args": {"to": "x"}, "queue": "default", "priority": 1, "max_attempts": 3}]}', now())`, acme.OrgID, lost.UID)
	require.NoError(t, err)

	sent := make(chan string, 10)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Receipt]) error {
			later := &jobs.FollowUpOpts{RunAt: time.Now().Add(time.Hour), Queue: "later"}
			if err := errors.Join(job.Follow(Mail{To: job.UID}, nil), job.Follow(Mail{To: "later"}, later)); err != nil {
				return err
			}
			if job.Args.How == "fail" {
				return jobs.Cancel(errors.New("no receipt after all"))
			}
			return nil
		})
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Mail]) error {
			sent <- job.Args.To
			return nil
		})
	})
	recovered := env.Wait(lost.UID)
	require.True(t, recovered.Recovered)
	require.Equal(t, "x", <-sent)
	require.Equal(t, jobs.Succeeded, env.Wait(mail).State, "under the uid that the ledger kept")

	done := env.Run("acme", Receipt{})
	require.Equal(t, jobs.Succeeded, done.State, done.Message)
	require.Equal(t, done.JobUID, <-sent)
	var stored string
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT result->'follow_ups'->0->>'uid' FROM headgate.ledger WHERE job_uid = $1`, done.JobUID).Scan(&stored))
	followed := env.Wait(stored)
	require.Equal(t, acme.ID, followed.TenantID)
	var parent, later string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT metadata->>'parent' FROM river_job WHERE metadata->>'job_uid' = $1`, stored).Scan(&parent))
	require.Equal(t, done.JobUID, parent)
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT state FROM river_job WHERE queue = 'later'`).Scan(&later))
	require.Equal(t, "scheduled", later)

	require.Equal(t, jobs.Cancelled, env.Run("acme", Receipt{How: "fail"}).State)
	var mails int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE kind = 'mail'`).Scan(&mails))
	require.Equal(t, 3, mails)
}

package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A final state is written when it is known: these tests make a job whose earlier
// attempt may still commit, or has, and look what is said of it.

// acme is a central database with one tenant, and no worker yet.
func acme(t *testing.T) (*jobstest.Env, *jobstest.Database, catalog.Tenant) {
	t.Helper()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	return env, db, env.Tenant("acme", "acme")
}

// lose makes a waiting job look as if its worker had been lost with it at a time.
func lose(t *testing.T, env *jobstest.Env, uid string, ago time.Duration) {
	t.Helper()
	tag, err := env.Pool.Exec(context.Background(), `
UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() - $3::interval, attempted_by = ARRAY[$2 || ':1'], finalized_at = NULL
WHERE metadata->>'job_uid' = $1`, uid, uuid.NewString(), ago)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
}

// zombie is an attempt that is open in the tenant's database: its worker is out of
// reach, and may wake.
func zombie(t *testing.T, db *jobstest.Database, org int64, uid string) pgx.Tx {
	t.Helper()
	ctx := context.Background()
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(ctx) })
	_, err = tx.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid) VALUES ($1, $2)`, org, uid)
	require.NoError(t, err)
	return tx
}

// wakes has the zombie do its work and commit.
func wakes(t *testing.T, tx pgx.Tx, org int64, uid string) {
	t.Helper()
	ctx := context.Background()
	for _, sql := range []string{
		`INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`,
		`UPDATE headgate.ledger SET state = 'done' WHERE org_id = $1 AND job_uid = $2`,
	} {
		_, err := tx.Exec(ctx, sql, org, uid)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit(ctx))
}

func effects(t *testing.T, db *jobstest.Database, uid string) (n int) {
	t.Helper()
	require.NoError(t, db.Pool.QueryRow(context.Background(), `SELECT count(*) FROM transfers WHERE job_uid = $1`, uid).Scan(&n))
	return n
}

// lockSoon is for workers that should not wait long for a zombie.
func lockSoon(env *jobstest.Env) *worker.Config {
	cfg := beatEvery(env.Config(), quickBeat)
	cfg.LockTimeout = 50 * time.Millisecond
	return &cfg
}

func ends(w *worker.Worker) { worker.InTx(w, end) }

// inConflict is a job of a worker that is out of reach, whose attempt is open still, and
// another worker at it, whose attempts wait for that one for lock. wake has the first
// attempt do its work and commit.
func inConflict(t *testing.T, lock time.Duration) (env *jobstest.Env, db *jobstest.Database, job jobs.EnqueueResult, wake func()) {
	t.Helper()
	env, db, tenant := acme(t)
	job, err := env.Client.Enqueue(context.Background(), "acme", Ending{}, nil)
	require.NoError(t, err)
	lose(t, env, job.UID, time.Minute)
	open := zombie(t, db, tenant.OrgID, job.UID)
	cfg := lockSoon(env)
	cfg.LockTimeout = lock
	env.Work(cfg, ends)
	return env, db, job, func() { wakes(t, open, tenant.OrgID, job.UID) }
}

// A worker is frozen, another finds its job busy, and somebody cancels it: it is
// being cancelled until the ledger says what has become of it.
func TestAJobWhoseAttemptMayBeOpenIsCancelledByItsLedger(t *testing.T) {
	t.Parallel()
	for name, commits := range map[string]bool{"it wakes": true, "it dies": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, db, tenant := acme(t)
			ctx := context.Background()
			job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
			require.NoError(t, err)
			lose(t, env, job.UID, time.Minute)
			open := zombie(t, db, tenant.OrgID, job.UID)
			env.Work(lockSoon(env), ends)
			env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Class == jobs.ClassConflict })
			result, err := env.Client.Cancel(ctx, job.UID, &jobs.CancelOpts{Actor: "ana"})
			require.NoError(t, err)
			require.Equal(t, jobs.Cancelling, result.State)
			if commits {
				wakes(t, open, tenant.OrgID, job.UID)
				require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
				require.Equal(t, 1, effects(t, db, job.UID))
				return
			}
			require.NoError(t, open.Rollback(ctx))
			got := env.Wait(job.UID)
			require.Equal(t, jobs.Cancelled, got.State)
			after, err := env.Client.Job(ctx, job.UID)
			require.NoError(t, err)
			require.Equal(t, "ana", after.Cancel.By)
			_, err = env.Client.Retry(ctx, job.UID)
			require.ErrorIs(t, err, jobs.ErrRetryRefused, "its ledger stops it")
			require.ErrorContains(t, err, "was stopped for good in its tenant's ledger")
		})
	}
}

// The same while the tenant is paused: nobody asks the ledger meanwhile, so the job
// goes on being cancelled, and why is told.
func TestAPausedTenantsJobIsBeingCancelledUntilThePauseEnds(t *testing.T) {
	t.Parallel()
	env, db, tenant := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	_, err = env.Admission.Pause(ctx, admission.OfTenant, "acme", nil)
	require.NoError(t, err)
	lose(t, env, job.UID, time.Minute)
	open := zombie(t, db, tenant.OrgID, job.UID)
	env.Work(lockSoon(env), ends)
	awaitTrue(t, env, "the job is given back", `SELECT state = 'available' FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, result.State)
	got, err := env.Explain.Explain(ctx, job.UID)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, got.Job.State)
	var codes []explain.Code
	for _, fact := range got.Facts {
		codes = append(codes, fact.Code)
	}
	require.Contains(t, codes, explain.CodeCancelling)
	require.Contains(t, codes, explain.CodePausedTenant)
	list, _, err := env.Client.Jobs(ctx, jobs.JobFilter{State: jobs.Cancelling})
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = env.Client.Retry(ctx, job.UID)
	require.ErrorContains(t, err, "is being cancelled since")
	wakes(t, open, tenant.OrgID, job.UID)
	_, err = env.Admission.Resume(ctx, admission.OfTenant, "acme")
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
	require.Equal(t, 1, effects(t, db, job.UID))
}

// errUnreachable stands for a catalog that does not answer.
var errUnreachable = errors.New("the catalog does not answer")

// failing is a resolver that fails for a while.
type failing struct {
	worker.Resolver
	left *atomic.Int32
}

func (f failing) ResolveTenant(ctx context.Context, id string, login jobs.Login) (jobs.Tenant, address.Place, error) {
	if f.left.Add(-1) >= 0 {
		return jobs.Tenant{}, address.Place{}, errUnreachable
	}
	return f.Resolver.ResolveTenant(ctx, id, login)
}

// A cancelled job that was given back, and whose next attempt fails before it
// reaches the ledger, is not ended by that.
func TestSettlingThatCannotResolveSettlesLater(t *testing.T) {
	t.Parallel()
	env, db, tenant := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	wakes(t, zombie(t, db, tenant.OrgID, job.UID), tenant.OrgID, job.UID) // it committed, and its worker died
	lose(t, env, job.UID, time.Minute)
	_, err = env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	cfg := lockSoon(env)
	cfg.Resolver = failing{cfg.Resolver, &atomic.Int32{}}
	cfg.Resolver.(failing).left.Store(2)
	env.Work(cfg, ends)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.True(t, got.Recovered)
	require.Equal(t, 1, effects(t, db, job.UID))
	require.Equal(t, 1, got.Attempt, "what could not be settled has used no attempt")
}

// A wish to cancel that comes while an attempt finds the job busy does not end it:
// another attempt is open.
func TestAWishToCancelDuringAConflictIsSettled(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env, db, job, wake := inConflict(t, 500*time.Millisecond)
	awaitTrue(t, env, "an attempt waits for the zombie", `SELECT state = 'running' AND attempted_by[1] LIKE '%:lost' FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	awaitTrue(t, env, "it waits in the tenant's database", `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`, db.Job.Database)
	// marked as Cancel does, the notification lost
	_, err := env.Pool.Exec(ctx, `UPDATE river_job SET metadata = metadata || jsonb_build_object('cancel_attempted_at', now()) WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Class != jobs.ClassLostWorker })
	wake()
	require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
	require.Equal(t, 1, effects(t, db, job.UID))
}

// A cancel that reaches an attempt which waits for another one does not end the job
// either, though River would end it whatever its worker returns.
func TestACancelThatReachesAnAttemptInConflictIsSettled(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env, db, job, wake := inConflict(t, time.Second)
	awaitTrue(t, env, "an attempt waits in the tenant's database", `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`, db.Job.Database)
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, result.State)
	put := env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Class != jobs.ClassLostWorker })
	require.Equal(t, jobs.Snoozed, put.State, put.Message)
	wake()
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt)
	require.Equal(t, 1, effects(t, db, job.UID))
	after, err := env.Client.Job(ctx, job.UID)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, after.State)
}

// A row left running by a worker that is nobody's is ended by its tombstone, as the
// ledger says.
func TestATombstoneEndsARowThatIsNobodys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		by   []string
		done bool
		want jobs.State
	}{
		"of another client": {by: []string{"web-7_2026"}, want: jobs.Cancelled},
		"of no name":        {by: nil, want: jobs.Cancelled},
		"done":              {by: []string{"web-7_2026"}, done: true, want: jobs.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, db, tenant := acme(t)
			ctx := context.Background()
			job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
			require.NoError(t, err)
			_, err = env.Pool.Exec(ctx, `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '10 minutes', attempted_by = $2 WHERE id = $1`, env.RowOf(job.UID), c.by)
			require.NoError(t, err)
			if c.done {
				wakes(t, zombie(t, db, tenant.OrgID, job.UID), tenant.OrgID, job.UID)
			}
			_, err = env.Client.Cancel(ctx, job.UID, nil)
			require.NoError(t, err)
			_, err = env.Pool.Exec(ctx, `UPDATE river_job SET metadata = jsonb_set(metadata, '{cancel_request,at}', to_jsonb(now() - interval '2 minutes')) WHERE id = $1`, env.RowOf(job.UID))
			require.NoError(t, err)
			result, err := env.Client.Cancel(ctx, job.UID, nil)
			require.NoError(t, err)
			require.NotEmpty(t, result.Tombstone)
			env.Work(lockSoon(env), ends)
			require.Equal(t, c.want, env.Wait(job.UID).State)
			require.Equal(t, jobs.Succeeded, env.Wait(result.Tombstone).State)
			after, err := env.Client.Job(ctx, job.UID)
			require.NoError(t, err)
			require.NotNil(t, after.FinishedAt)
			require.Len(t, after.Attempts, 1)
		})
	}
}

// A job that was done, whose worker was lost before it could say so, and that then
// waited until its ledger had forgotten it, is not done again: somebody is told.
func TestWhatTheLedgerMayHaveForgottenIsTold(t *testing.T) {
	t.Parallel()
	env, db, tenant := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	wakes(t, zombie(t, db, tenant.OrgID, job.UID), tenant.OrgID, job.UID)
	_, err = db.Pool.Exec(ctx, `DELETE FROM headgate.ledger`) // what 31 days and the neighbours' jobs do
	require.NoError(t, err)
	lose(t, env, job.UID, 31*24*time.Hour)
	env.Work(lockSoon(env), ends)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.ClassUnsafe, got.Class, got.Message)
	require.Equal(t, jobs.Cancelled, got.State)
	require.Contains(t, got.Message, "headgate job rerun")
	require.Equal(t, 1, effects(t, db, job.UID))
	_, err = env.Client.Retry(ctx, job.UID)
	require.ErrorIs(t, err, jobs.ErrRetryRefused)
	require.ErrorContains(t, err, "that its tenant's ledger remembers")
}

// While the ledger remembers, it answers, however long ago that was.
func TestWhatTheLedgerStillKnowsIsDone(t *testing.T) {
	t.Parallel()
	env, db, tenant := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	wakes(t, zombie(t, db, tenant.OrgID, job.UID), tenant.OrgID, job.UID)
	lose(t, env, job.UID, 31*24*time.Hour)
	env.Work(lockSoon(env), ends)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.True(t, got.Recovered)
}

// A job that has waited for years, or was put off for months in an orderly way, is
// no danger: no attempt of it is unaccounted for.
func TestAnOldJobWithoutALostAttemptRuns(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `
UPDATE river_job SET created_at = now() - interval '400 days', attempted_at = now() - interval '60 days', attempted_by = '{0190aaaa-0000-7000-8000-000000000001:1}'
WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	env.Work(lockSoon(env), ends)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, effects(t, db, job.UID))
}

package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Brief has one attempt and little time.
type Brief struct{}

func (Brief) Kind() string { return "brief" }

func (Brief) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 1, Timeout: 3 * time.Second} // a slow machine gets to COMMIT in that
}

// slowCommit makes a job's COMMIT wait for a lock of the test's, whatever cancels it.
const slowCommit = `
CREATE FUNCTION wait_for_it() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    LOOP
        BEGIN
            PERFORM pg_advisory_xact_lock(42);
            RETURN NULL;
        EXCEPTION WHEN query_canceled OR lock_not_available THEN NULL;
        END;
    END LOOP;
END $$;
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON transfers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_it()`

// A COMMIT on its way is in the worker's own hands: when the attempt's time is up its
// handler is not to blame, which has returned long since. While nobody knows what has
// become of it the job waits, as after a conflict, and uses no attempt.
func TestACommitThatTakesLongIsNobodysFault(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, Observed: "a trigger has its owner's rights"})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	_, err := db.Pool.Exec(ctx, slowCommit)
	require.NoError(t, err)
	lock, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = lock.Rollback(ctx) }()
	_, err = lock.Exec(ctx, `SELECT pg_advisory_xact_lock(42)`)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.LockTimeout, cfg.StuckAfter = time.Second, time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Brief]) error {
			_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`, job.Tenant.OrgID, job.UID)
			return err
		})
	})
	var uids []string
	for told := false; !told; {
		require.Less(t, len(uids), 5, "this machine is so slow that the ledger cannot be asked in time")
		result, err := env.Client.Enqueue(ctx, "acme", Brief{}, nil)
		require.NoError(t, err)
		uids = append(uids, result.UID)
		held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
		require.Equal(t, jobs.Snoozed, held.State, held.Message)
		if told = held.Class == jobs.ClassConflict; !told {
			require.Equal(t, jobs.ClassInterrupted, held.Class, held.Message)
			require.Contains(t, held.Message, "asking its ledger failed")
		}
	}
	require.NoError(t, lock.Rollback(ctx))
	for _, uid := range uids {
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, 1, got.Attempt)
		require.Equal(t, 1, effects(t, db, uid))
	}
}

// Again asks to be run again in a minute.
type Again struct{}

func (Again) Kind() string { return "again" }

// When a job is to run again is a time of the database's clock, whatever the worker's
// says; no keeper puts that right.
func TestATimeToRunAgainIsTheDatabases(t *testing.T) {
	t.Parallel()
	env := jobstest.NewOn(t, jobstest.Direct(t)) // a pooler would keep sessions of the old search_path
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, shadowClock+`; UPDATE skew.clock SET by = '2 hours'`)
	require.NoError(t, err)
	env.Pool.Reset()
	cfg := env.Config()
	cfg.ClockSlack, cfg.PollOnly = 24*time.Hour, true // whose sessions have the database's search_path
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Again]) error { return jobs.Snooze(time.Minute) })
	})
	result, err := env.Client.Enqueue(ctx, "acme", Again{}, nil)
	require.NoError(t, err)
	env.WaitFor(result.UID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	var wait time.Duration
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT scheduled_at - now() FROM river_job WHERE id = $1`, env.RowOf(result.UID)).Scan(&wait))
	require.LessOrEqual(t, wait, time.Minute)
	require.Greater(t, wait, 0*time.Second)
}

// LateBrief is optimistic, and has one attempt and little time.
type LateBrief struct{}

func (LateBrief) Kind() string { return "late-brief" }

func (LateBrief) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 1, Optimistic: true, Timeout: 20 * time.Second}
}

// An optimistic attempt that waits in vain for the ledger's key, at its end, has met
// another attempt: it waits, and uses none.
func TestAnOptimisticAttemptThatWaitsForTheKeyWaits(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", LateBrief{}, nil)
	require.NoError(t, err)
	other, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = other.Rollback(ctx) }()
	_, err = other.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state) VALUES ($1, $2, 'done')`, acme.OrgID, result.UID)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.LockTimeout = 50 * time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[LateBrief]) error { return nil })
	})
	held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, held.State, held.Message)
	require.Equal(t, jobs.ClassConflict, held.Class)
	require.NoError(t, other.Rollback(ctx))
	require.Equal(t, jobs.Succeeded, env.Wait(result.UID).State)
}

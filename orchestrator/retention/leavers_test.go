package retention_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// Waiting jobs of a tenant that takes no work are cancelled where that was decided, now or
// later ones, and nobody else's; the reason says why.
func TestWaitingJobsOfLeaversAreCancelled(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	enqueue := func(tenant string, in time.Duration) string {
		opts := &jobs.EnqueueOpts{}
		if in > 0 {
			opts.RunAt = time.Now().Add(in)
		}
		result, err := env.Client.Enqueue(ctx, tenant, roomtest.Note{Text: "x"}, opts)
		require.NoError(t, err)
		return result.UID
	}
	now, later, brick := enqueue("acme", 0), enqueue("acme", time.Hour), enqueue("brick", 0)
	j := roomtest.Janitor(t, env, retention.Config{})
	suspend := func(tenant string, waiting catalog.Waiting) {
		_, err := env.Catalog.Editor().SetStatus(ctx, []string{tenant}, catalog.StatusChange{To: catalog.Suspended, Reason: "invoice 4711", Waiting: waiting})
		require.NoError(t, err)
	}
	suspend("brick", catalog.HoldWaiting)
	suspend("acme", catalog.HoldWaiting)
	require.Zero(t, roomtest.Sweep(t, j).Cancelled)
	suspend("acme", catalog.CancelWaiting)
	require.Equal(t, 2, roomtest.Sweep(t, j).Cancelled)
	require.Zero(t, roomtest.Sweep(t, j).Cancelled)
	for _, uid := range []string{now, later} {
		job := roomtest.JobOf(t, env, uid)
		require.Equal(t, jobs.Cancelled, job.State)
		require.Equal(t, "tenant acme is suspended: invoice 4711", job.Cancel.Reason)
	}
	require.Equal(t, jobs.Waiting, roomtest.JobOf(t, env, brick).State)
}

// Who is archived, as the command does it, or removed loses the jobs that wait. A job that
// runs ends as it would: nobody asks its worker to cancel it.
func TestLeaversKeepWhatRuns(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	j := roomtest.Janitor(t, env, retention.Config{})
	enqueue := func(tenant string) jobs.EnqueueResult {
		result, err := env.Client.Enqueue(ctx, tenant, roomtest.Note{Text: "x"}, nil)
		require.NoError(t, err)
		return result
	}
	for tenant, c := range map[string]struct {
		leave  func() error
		reason string
	}{
		"acme": {func() error {
			_, err := env.Catalog.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Archived, Reason: "contract ended", Waiting: catalog.CancelWaiting})
			return err
		}, "tenant acme is archived: contract ended"},
		"brick": {func() error {
			_, err := env.Catalog.Editor().Remove(ctx, []string{"brick"}, &catalog.RemoveOpts{Reason: "gone"})
			return err
		}, "tenant brick is removed: gone"},
	} {
		running, later, waits := enqueue(tenant), enqueue(tenant), enqueue(tenant)
		roomtest.RunUnder(t, env, env.RowOf(running.UID))
		roomtest.PutInto(t, env, env.RowOf(later.UID), "scheduled")
		require.NoError(t, c.leave())
		require.Equal(t, 2, roomtest.Sweep(t, j).Cancelled, tenant)
		require.Zero(t, roomtest.Sweep(t, j).Cancelled, tenant)
		for _, uid := range []string{later.UID, waits.UID} {
			job := roomtest.JobOf(t, env, uid)
			require.Equal(t, jobs.Cancelled, job.State, tenant)
			require.Equal(t, c.reason, job.Cancel.Reason)
		}
		still := roomtest.JobOf(t, env, running.UID)
		require.Equal(t, jobs.Running, still.State, tenant)
		require.Nil(t, still.Cancel, tenant)
	}
}

// A job that waited between two attempts of a removed tenant was asked to be cancelled, and
// stayed so for ever, because no worker asks the ledger of a tenant that takes no work.
func TestJobsOfLeaversThatHaveBegunComeToAnEnd(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	j := roomtest.Janitor(t, env, retention.Config{})
	begun := func(tenant, metadata string) string {
		result, err := env.Client.Enqueue(ctx, tenant, roomtest.Note{Text: "x"}, nil)
		require.NoError(t, err)
		_, err = env.Pool.Exec(ctx, `UPDATE river_job SET state = 'retryable', attempt = 1, attempted_at = now(), attempted_by = '{0190aaaa-0000-7000-8000-000000000001:1}', scheduled_at = now() + interval '1 hour',
			metadata = metadata || $2::jsonb WHERE id = $1`, env.RowOf(result.UID), metadata)
		require.NoError(t, err)
		return result.UID
	}
	const open, old = `{"open_since": 32503680000}`, `{"open_since": 1}`
	kept, keptOpen := begun("acme", `{}`), begun("acme", open)
	_, err := env.Catalog.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Waiting: catalog.CancelWaiting})
	require.NoError(t, err)
	ended, asked, unknown, fresh := begun("brick", `{}`), begun("brick", `{}`), begun("brick", old), begun("brick", open)
	_, err = env.Client.Cancel(ctx, asked, &jobs.CancelOpts{Actor: "ana", Reason: "by mistake"})
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, roomtest.JobOf(t, env, asked).State)
	_, err = env.Catalog.Editor().Remove(ctx, []string{"brick"}, nil)
	require.NoError(t, err)

	require.Equal(t, 5, roomtest.Sweep(t, j).Cancelled)
	for uid, reason := range map[string]string{
		kept: "tenant acme is suspended", ended: "tenant brick is removed", asked: "by mistake",
		unknown: "tenant brick is removed; nobody knows whether its last attempt was done",
	} {
		job := roomtest.JobOf(t, env, uid)
		require.Equal(t, jobs.Cancelled, job.State, reason)
		require.Equal(t, reason, job.Cancel.Reason)
		require.Equal(t, jobs.Cancelled, job.Attempts[len(job.Attempts)-1].State)
	}
	require.Equal(t, jobs.Cancelling, roomtest.JobOf(t, env, keptOpen).State, "its ledger is asked once the tenant is active")
	require.Equal(t, jobs.Failed, roomtest.JobOf(t, env, fresh).State, "its attempt may still go on")
	require.Zero(t, roomtest.Sweep(t, j).Cancelled)
}

// A row that somebody has locked held all other jobs of leavers up, pass after pass.
func TestALockedJobOfALeaverHoldsNoOtherUp(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	first, second := roomtest.Enqueue(t, env), roomtest.Enqueue(t, env)
	_, err := env.Catalog.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Archived, Waiting: catalog.CancelWaiting})
	require.NoError(t, err)
	j := roomtest.Janitor(t, env, retention.Config{Batch: 1}) // the locked row would fill it
	release := roomtest.Locked(t, env, `SELECT FROM river_job WHERE id = $1 FOR UPDATE`, env.RowOf(first.UID))
	require.Equal(t, 1, roomtest.Sweep(t, j).Cancelled)
	require.Equal(t, jobs.Waiting, roomtest.JobOf(t, env, first.UID).State)
	require.Equal(t, jobs.Cancelled, roomtest.JobOf(t, env, second.UID).State)
	release()
	require.Equal(t, 1, roomtest.Sweep(t, j).Cancelled)
	require.Equal(t, jobs.Cancelled, roomtest.JobOf(t, env, first.UID).State)
}

// With enable_seqscan off every statement had costs at which Postgres compiles it, which took
// a second each: from 200 jobs on the pass was over its time, and all of it was rolled back.
func TestHundredsOfJobsOfALeaverAreCancelledWithJIT(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	for range 400 {
		roomtest.Enqueue(t, env)
	}
	for _, setting := range []string{"jit = on", "jit_above_cost = 0"} {
		roomtest.Do(t, env, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET `+setting+`', current_database()); END $$`)
	}
	env.Pool.Reset()
	_, err := env.Catalog.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Waiting: catalog.CancelWaiting})
	require.NoError(t, err)
	require.Equal(t, 400, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Cancelled)
}

// A pass whose time was over took back all that it had cancelled. Here its session ends at the
// 70th job.
func TestAPassKeepsTheLeaversJobsThatItHasCancelled(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	for range 100 {
		roomtest.Enqueue(t, env)
	}
	_, err := env.Catalog.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Waiting: catalog.CancelWaiting})
	require.NoError(t, err)
	for _, sql := range []string{
		`CREATE SEQUENCE public.ended`, `GRANT USAGE ON SEQUENCE public.ended TO PUBLIC`,
		`CREATE FUNCTION public.end_session() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF nextval('public.ended') = 70 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
    RETURN NULL;
END $$`,
		`CREATE TRIGGER end_session AFTER UPDATE ON river_job FOR EACH ROW WHEN (NEW.state = 'cancelled' AND OLD.state <> 'cancelled') EXECUTE FUNCTION public.end_session()`,
	} {
		roomtest.Do(t, env, sql)
	}
	j := roomtest.Janitor(t, env, retention.Config{})
	swept, err := j.RunOnce(ctx)
	require.Error(t, err)
	require.Equal(t, 50, swept.Cancelled)
	require.Equal(t, 50, roomtest.Sweep(t, j).Cancelled)
}

// Whose waiting jobs are cancelled was decided when the tenant had long been suspended, or no
// janitor has run since: its jobs waited for ever.
func TestJobsOfALeaverAreCancelledHoweverLongAgoTheTenantLeft(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	job := roomtest.Enqueue(t, env)
	suspend := func(waiting catalog.Waiting) {
		_, err := env.Catalog.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Waiting: waiting})
		require.NoError(t, err)
	}
	suspend(catalog.HoldWaiting)
	roomtest.Do(t, env, `DO $$ BEGIN
		SET LOCAL session_replication_role = replica; -- a trigger lets no writer do so
		UPDATE headgate.tenants SET status_since = now() - interval '8 days' WHERE slug = 'acme';
	END $$`)
	suspend(catalog.CancelWaiting)
	require.Equal(t, 1, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Cancelled)
	require.Equal(t, jobs.Cancelled, roomtest.JobOf(t, env, job.UID).State)
}

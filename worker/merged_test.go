package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker"
)

// What was found where rules meet that are tested apart.

// A job that is cancelled during one of many conflicts, of which the history keeps a part
// only, is settled by its ledger all the same.
func TestACancelDuringARepeatedConflictIsSettled(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env, db, job, wake := inConflict(t, time.Second)
	awaitTrue(t, env, "two conflicts", `SELECT coalesce(state = 'running' AND (metadata->'held'->>'times')::int = 2, false) FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	awaitTrue(t, env, "an attempt waits in the tenant's database", `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`, db.Job.Database)
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, result.State)
	awaitTrue(t, env, "that attempt is over", `SELECT finalized_at IS NULL AND state <> 'running' OR (metadata->'held'->>'times')::int > 2 FROM river_job WHERE id = $1`, env.RowOf(job.UID))
	wake()
	require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
	require.Equal(t, 1, effects(t, db, job.UID))
}

// A job whose follow-up the queue refuses is done, once, and says what is missing.
func TestAFollowUpThatDoesNotFitIsTold(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `ALTER TABLE river_job ADD CONSTRAINT app CHECK (kind <> 'odd' OR args ? 'tenant_ref') NOT VALID`)
	require.NoError(t, err)
	var runs atomic.Int32
	env.Work(nil, func(w *worker.Worker) {
		worker.NoConn(w, func(_ context.Context, job *jobs.Job[CallingOut]) error {
			runs.Add(1)
			return job.Follow(Odd{}, nil)
		})
	})
	job, err := env.Client.Enqueue(ctx, "acme", CallingOut{}, nil)
	require.NoError(t, err)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State)
	require.Contains(t, got.Message, "the jobs that it asked for cannot be stored")
	require.EqualValues(t, 1, runs.Load())
}

// A row that a trigger guards, whatever the trigger raises, and even if the row cannot be
// set aside, keeps no other from being claimed or becoming due.
func TestAGuardedRowStopsNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ when, raise, state string }{
		"no_data_found at a claim":   {`NEW.state = 'running' AND 'poison' = ANY (NEW.tags)`, `no_data_found`, "available"},
		"42501 at a claim":           {`NEW.state = 'running' AND 'poison' = ANY (NEW.tags)`, `insufficient_privilege`, "available"},
		"P0001 at every update":      {`'poison' = ANY (OLD.tags)`, `'legal hold'`, "available"},
		"P0001 at becoming due, too": {`'poison' = ANY (OLD.tags)`, `'legal hold'`, "scheduled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOddRows(t)
			o.exec(`CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE ` + c.raise + `; END $$;
CREATE TRIGGER poison BEFORE UPDATE ON river_job FOR EACH ROW WHEN (` + c.when + `) EXECUTE FUNCTION poison()`)
			columns := map[string]string{"tags": `'{poison}'`, "state": `'` + c.state + `'`}
			if c.state == "scheduled" {
				columns["scheduled_at"] = `now() - interval '1 hour'`
			}
			o.insert("poison", columns)
			o.work()
			o.othersGoOn(5)
		})
	}
}

// A job of a kind that has no ledger, and that is at work in a living worker, is that
// worker's to end, also when somebody has wanted it cancelled for long.
func TestATombstoneLeavesALivingWorkersJobToIt(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	ctx := context.Background()
	began, release := make(chan struct{}, 1), make(chan struct{})
	cfg := env.Config()
	cfg.StuckAfter = time.Hour
	env.Work(&cfg, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[CallingOut]) error {
			began <- struct{}{}
			<-release // it calls somebody, whatever its context says
			return nil
		})
	})
	job, err := env.Client.Enqueue(ctx, "acme", CallingOut{}, nil)
	require.NoError(t, err)
	receive(t, began)
	_, err = env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET metadata = jsonb_set(metadata, '{cancel_request,at}', to_jsonb(now() - interval '2 minutes')) WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	result, err := env.Client.Cancel(ctx, job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, env.Wait(result.Tombstone).State)
	after, err := env.Client.Job(ctx, job.UID)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelling, after.State)
	close(release)
	require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
}

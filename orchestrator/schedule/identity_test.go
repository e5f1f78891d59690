package schedule_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
)

const effectsTable = `CREATE TABLE effects (job_uid uuid NOT NULL); GRANT INSERT ON effects TO headgate_job`

// effectful is a central database with tenant acme, whose notes leave a row in effects.
func effectful(t *testing.T) (*jobstest.Env, *jobstest.Database) {
	t.Helper()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{Kind: "dedicated", Schema: effectsTable})
	env.Tenant("acme", "shared")
	return env, db
}

// workNotes works an environment's queue until the test ends.
func workNotes(env *jobstest.Env) {
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[roomtest.Note]) error {
			_, err := tx.Exec(ctx, `INSERT INTO effects VALUES ($1)`, job.UID)
			return err
		})
	})
}

func effectsOf(t *testing.T, db *jobstest.Database) (n int) {
	t.Helper()
	require.NoError(t, db.Pool.QueryRow(context.Background(), `SELECT count(*) FROM effects`).Scan(&n))
	return n
}

// uidsOf are the UIDs of the jobs of one origin, in the order of their nominal times.
func uidsOf(t *testing.T, env *jobstest.Env, origin string) []string {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `SELECT job_uid::text FROM headgate.occurrences WHERE origin = $1 AND job_uid IS NOT NULL ORDER BY nominal_at`, origin)
	require.NoError(t, err)
	uids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return uids
}

// What an occurrence has done is not done again when the central database is as it was
// before, because the tenant's ledger knows its job by its UID.
func TestAnOccurrenceIsDoneOnceAcrossARestore(t *testing.T) {
	t.Parallel()
	env, db := effectful(t)
	ctx := context.Background()
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{Overlap: schedule.OverlapAllow})
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_nominal_at = date_trunc('minute', now() - interval '5 minutes'), next_run_at = date_trunc('minute', now() - interval '5 minutes')`)
	restored := env.Copy()

	trigger, backfill := uuid.NewString(), schedule.BackfillParams{From: time.Now().AddDate(0, 0, -3), To: time.Now(), Request: uuid.NewString()}
	fire := func(env *jobstest.Env) (uids []string) {
		require.Equal(t, 1, pass(t, env))
		triggered, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), &schedule.TriggerOpts{Request: trigger})
		require.NoError(t, err)
		done, err := env.Schedules.Backfill(ctx, of("acme", "nightly"), backfill)
		require.NoError(t, err)
		require.Equal(t, 3, done.Jobs)
		require.Equal(t, backfill.Request, done.Request)
		require.Equal(t, []string{triggered.UID}, uidsOf(t, env, "trigger"))
		return slices.Concat(uidsOf(t, env, "clock"), uidsOf(t, env, "trigger"), uidsOf(t, env, "backfill"))
	}
	first, again := fire(env), fire(restored)
	require.Len(t, first, 5)
	require.Equal(t, first, again)

	workNotes(env)
	for _, uid := range first {
		require.False(t, env.Wait(uid).Recovered)
	}
	require.Equal(t, 5, effectsOf(t, db))

	_, err := restored.Catalog.Adopt(ctx, catalog.AdoptParams{All: true})
	require.NoError(t, err)
	workNotes(restored)
	for _, uid := range again {
		o := restored.Wait(uid)
		require.Equal(t, jobs.Succeeded, o.State)
		require.True(t, o.Recovered, "the ledger knows what was done before")
	}
	require.Equal(t, 5, effectsOf(t, db))
}

// A request triggers once, however often it is made: beside a run, and behind one.
func TestARequestTriggersOnce(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{Overlap: schedule.OverlapBufferOne})
	trigger := func(request string) schedule.Triggered {
		result, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), &schedule.TriggerOpts{Request: request})
		require.NoError(t, err)
		return result
	}
	running, waits := uuid.NewString(), uuid.NewString()
	first := trigger(running)
	require.False(t, first.Again)
	again := first
	again.Again = true
	require.Equal(t, again, trigger(running))
	require.Equal(t, again, trigger(strings.ToUpper(running)))
	behind := trigger(waits)
	require.True(t, behind.Waiting)
	behind.Again = true
	require.Equal(t, behind, trigger(waits))
	require.Equal(t, 1, jobsOf(t, env, "nightly"))

	finish(t, env, "nightly")
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = clock_timestamp()`)
	require.Equal(t, 1, pass(t, env))
	released := trigger(waits)
	require.Equal(t, behind.Nominal, released.Nominal)
	require.False(t, released.Waiting)
	require.True(t, released.Again)
	require.Equal(t, []string{first.UID, released.UID}, uidsOf(t, env, "trigger"))
	require.Equal(t, 2, jobsOf(t, env, "nightly"))

	_, err := env.Schedules.Trigger(ctx, of("acme", "nightly"), &schedule.TriggerOpts{Request: "tonight"})
	require.ErrorContains(t, err, `request "tonight": give a UUID`)
	_, err = env.Schedules.Backfill(ctx, of("acme", "nightly"), schedule.BackfillParams{From: time.Now(), To: time.Now(), Request: "tonight"})
	require.ErrorContains(t, err, `request "tonight": give a UUID`)
}

// Runs that wait for each other keep their request, so that a restore finds them done too.
func TestRunsThatWaitKeepTheirRequest(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{})
	restored, other := env.Copy(), env.Copy()
	p := schedule.BackfillParams{From: time.Now().AddDate(0, 0, -3), To: time.Now(), Overlap: schedule.OverlapBufferAll, Request: uuid.NewString()}
	run := func(env *jobstest.Env) []string {
		done, err := env.Schedules.Backfill(ctx, of("acme", "nightly"), p)
		require.NoError(t, err)
		require.Equal(t, 2, done.Waiting)
		for range 2 {
			finish(t, env, "nightly")
			roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = clock_timestamp()`)
			require.Equal(t, 1, pass(t, env))
		}
		return uidsOf(t, env, "backfill")
	}
	first := run(env)
	require.Len(t, first, 3)
	require.Equal(t, first, run(restored))
	p.Request = uuid.NewString()
	require.NotContains(t, run(other), first[0], "another request is other work")
}

// An occurrence that has its answer is not enqueued again, though its job's UID is the
// one that the answer names.
func TestAnAnsweredOccurrenceIsEnqueuedOnce(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	s := roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{Overlap: schedule.OverlapAllow})
	at := time.Now().UTC().Add(-5 * time.Minute).Truncate(time.Minute)
	for range 2 {
		roomtest.Do(t, env, `UPDATE headgate.schedules SET next_nominal_at = $1, next_run_at = $1`, at)
		require.Equal(t, 1, pass(t, env))
	}
	require.Equal(t, "fired 1", outcomes(t, env, s))
	require.Equal(t, 1, jobsOf(t, env, "nightly"))
}

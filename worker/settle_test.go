package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// cancelledAndLost is a job that was cancelled while it ran, and given back
// when its worker was found dead.
func cancelledAndLost(t *testing.T, env *jobstest.Env) string {
	t.Helper()
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET metadata = metadata || jsonb_build_object('cancel_attempted_at', now()) WHERE id = $1`, env.RowOf(result.UID))
	require.NoError(t, err)
	return result.UID
}

// A job cancelled while its worker was lost ends with a tombstone; if the lost
// attempt had done it, it has succeeded; while that is open, it is not settled.
func TestSettlingACancelledJob(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	setup := func(t *testing.T) (*jobstest.Env, *jobstest.Database, int64) {
		env := jobstest.New(t)
		db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
		return env, db, env.Tenant("acme", "acme").OrgID
	}
	work := func(env *jobstest.Env) {
		cfg := env.Config()
		cfg.LockTimeout = 50 * time.Millisecond
		env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
	}
	ledger := func(t *testing.T, db *jobstest.Database, uid string) (state string) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT state FROM headgate.ledger WHERE job_uid = $1`, uid).Scan(&state))
		return state
	}
	t.Run("nothing done", func(t *testing.T) {
		t.Parallel()
		env, db, _ := setup(t)
		uid := cancelledAndLost(t, env)
		work(env)
		got := env.Wait(uid)
		require.Equal(t, jobs.Cancelled, got.State, got.Message)
		require.Equal(t, "tombstone", ledger(t, db, uid))
	})
	t.Run("done after all", func(t *testing.T) {
		t.Parallel()
		env, db, org := setup(t)
		uid := cancelledAndLost(t, env)
		_, err := db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state, result) VALUES ($1, $2, 'done', '{"rows": 3}')`, org, uid)
		require.NoError(t, err)
		work(env)
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.True(t, got.Recovered)
		require.EqualValues(t, 3, got.Result.Rows)
	})
	t.Run("still open", func(t *testing.T) {
		t.Parallel()
		env, db, org := setup(t)
		uid := cancelledAndLost(t, env)
		zombie, err := db.Pool.Begin(ctx)
		require.NoError(t, err)
		defer func() { _ = zombie.Rollback(ctx) }() // also if the test fails: the pool's end waits for it
		_, err = zombie.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid) VALUES ($1, $2)`, org, uid)
		require.NoError(t, err)
		work(env)
		held := env.WaitFor(uid, func(jobs.Outcome) bool { return true })
		require.Equal(t, jobs.Snoozed, held.State, "not settled, so not cancelled")
		_, err = zombie.Exec(ctx, `UPDATE headgate.ledger SET state = 'done' WHERE job_uid = $1`, uid)
		require.NoError(t, err)
		require.NoError(t, zombie.Commit(ctx))
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
	})
}

// Cancelling a running job of a living worker ends it now, and rolls it back.
func TestCancelWhileRunning(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	began := make(chan struct{}, 1)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			if err := end(ctx, tx, job); err != nil {
				return err
			}
			began <- struct{}{}
			_, err := tx.Exec(ctx, `SELECT pg_sleep(60)`)
			return err
		})
	})
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	receive(t, began)
	_, err = env.Client.Cancel(ctx, result.UID, nil)
	require.NoError(t, err)
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Cancelled, got.State)
	var rows int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM transfers`).Scan(&rows))
	require.Zero(t, rows)
}

// older replaces a tenant database's Headgate schema by that of a version before, as the
// database's owner.
func older(t *testing.T, env *jobstest.Env, db *jobstest.Database, version int) {
	t.Helper()
	ctx := context.Background()
	place, err := env.Catalog.ResolveDatabase(ctx, db.ID, jobs.LoginOwner)
	require.NoError(t, err)
	conn, err := tenantdb.Connect(ctx, tenantdb.Config{}, place.Transport, place.Pooler, db.Owner)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `DROP SCHEMA headgate CASCADE`)
	require.NoError(t, err)
	_, err = migrations.UpTenant(ctx, conn, migrations.Identity{DatabaseID: db.ID}, &migrations.UpOpts{To: version})
	require.NoError(t, err)
}

// A database that carries an older Headgate schema is upgraded by the first job
// that meets it, with the owner's login.
func TestAnOlderTenantSchemaIsUpgraded(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	older(t, env, db, 5)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, runSQL) })
	got := env.Run("acme", SQL{`SELECT 1`})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	attempts, err := env.Attempts(ctx, got.JobUID)
	require.NoError(t, err)
	require.Equal(t, 1, got.Attempt)
	for _, o := range attempts[:len(attempts)-1] { // on a slow machine it gives up, also before it has begun, and is made again
		require.Equal(t, jobs.Snoozed, o.State, o.Message)
		if o.Class != jobs.ClassConnectTimeout {
			require.Contains(t, o.Message, "upgrading Headgate's schema")
		}
	}
	var version int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT max(version) FROM headgate.migrations`).Scan(&version))
	_, newest := migrations.Versions()
	require.Equal(t, newest, version)
}

// A server that cannot look whether its client is still there has jobs that work,
// as they did before anybody asked it to.
func TestAServerThatCannotWatchItsClients(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{})
	env.Tenant("acme", "acme")
	older(t, env, db, 14)
	_, err := db.Pool.Exec(context.Background(), `CREATE OR REPLACE FUNCTION headgate.watch_client(p_every_ms bigint, p_local boolean) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'`) // as migration 8 makes it there
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Sum]) error {
			return tx.QueryRow(ctx, `SELECT current_setting('client_connection_check_interval')`).Scan(&job.Result.Output)
		})
	})
	got := env.Run("acme", Sum{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, "0", got.Result.Output)
}

// A tombstone that the centre enqueues stops its job in the tenant's ledger, as
// soon as no transaction of it is open any more.
func TestTheTombstoneKind(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	const uid = "0190aaaa-0000-7000-8000-000000000042"
	open, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = open.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid) VALUES ($1, $2)`, acme.OrgID, uid)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.LockTimeout = 50 * time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
	result, err := env.Client.Enqueue(ctx, "acme", wire.Tombstone{UID: uid}, nil)
	require.NoError(t, err)
	env.WaitFor(result.UID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.NoError(t, open.Rollback(ctx))
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Contains(t, got.Result.Output, "is tombstone in its tenant's ledger")
}

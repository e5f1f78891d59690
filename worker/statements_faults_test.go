//go:build faults

package worker_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// Sought is a job whose statement has a person's address as its parameter.
type Sought struct{}

func (Sought) Kind() string { return "sought" }

// A server that counts statements, of the centre and of a tenant, has no secret in its list:
// logins are made, used, refused and changed, and values are passed.
func TestFaultsStatementsHoldNoSecret(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := startPostgres(t, localpg.Config{Memory: true, Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "10000"}})
	pool, err := pgxpool.New(ctx, server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(ctx, `CREATE EXTENSION pg_stat_statements`)
	require.NoError(t, err)
	listed := func(text string) (n int) {
		require.NoError(t, pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_statements WHERE strpos(query, $1) > 0`, text).Scan(&n))
		return n
	}
	env := jobstest.NewOn(t, onServer("counting", server))
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: whispers, On: onServer("counting", server)})
	acme := env.Tenant("acme", "acme")
	_, err = db.Pool.Exec(ctx, `INSERT INTO notes VALUES ($1, $2)`, acme.OrgID, whisper)
	require.NoError(t, err)
	cfg := env.Config()
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, sum)
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Sought]) error {
			tag, err := tx.Exec(ctx, `UPDATE notes SET body = $1 WHERE body = $1`, whisper)
			job.Result.Rows = tag.RowsAffected()
			return err
		})
	})
	require.Equal(t, jobs.Succeeded, env.Run("acme", Sum{}).State)
	wrong := db.Job
	wrong.Password = db.Owner.Password
	require.NoError(t, env.Catalog.Logins().Set(ctx, "acme", jobs.LoginJob, wrong))
	refused, err := env.Client.Enqueue(ctx, "acme", Sum{}, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.ClassAuthFailed, env.WaitFor(refused.UID, func(jobs.Outcome) bool { return true }).Class)
	require.NoError(t, env.Catalog.Logins().Set(ctx, "acme", jobs.LoginJob, db.Job))
	require.Equal(t, jobs.Succeeded, env.Wait(refused.UID).State)
	told := env.Run("acme", Sought{})
	require.Equal(t, jobs.Succeeded, told.State, told.Message)
	require.EqualValues(t, 1, told.Result.Rows)
	require.NoError(t, w.Stop(ctx))
	require.NotZero(t, listed("headgate.begin_job"), "the list has the statements of jobs")
	require.NotZero(t, listed("river_job"), "the list has the centre's statements")
	require.Zero(t, listed(jobstest.Planted))
	require.Zero(t, listed(jobstest.PlantedEmail))
	_, err = pool.Exec(ctx, `CREATE ROLE control PASSWORD '`+jobstest.Planted+`'`)
	require.NoError(t, err)
	require.Equal(t, 1, listed(jobstest.Planted), "the control")
}

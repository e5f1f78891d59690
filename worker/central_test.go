package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// login makes a superuser of the central database of env with settings of its own,
// and a pool of it as a program would make one.
func login(t *testing.T, env *jobstest.Env, settings map[string]string) (pool *pgxpool.Pool, name string) {
	t.Helper()
	ctx := context.Background()
	database := env.Pool.Config().ConnConfig.Database
	name = database + "_login"
	exec := func(sql string) {
		t.Helper()
		_, err := env.Pool.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	exec(fmt.Sprintf(`CREATE ROLE %s SUPERUSER LOGIN PASSWORD 'planted'`, name))
	t.Cleanup(func() { exec(`DROP ROLE ` + name) })
	for setting, value := range settings {
		if setting == "DateStyle" || setting == "search_path" {
			exec(fmt.Sprintf(`ALTER ROLE %s SET %s = %s`, name, setting, value))
		} else {
			exec(fmt.Sprintf(`ALTER ROLE %s SET %s = '%s'`, name, setting, value))
		}
	}
	cfg := env.Pool.Config()
	cfg.ConnConfig.User, cfg.ConnConfig.Password, cfg.ConnConfig.Fallbacks = name, "planted", nil
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, name
}

// The pool is the program's, and its login's settings may be the worst: the worker
// claims, runs, ends, and is counted as alive, on connections of its own.
func TestAWorkersCentralSessionsAreItsOwn(t *testing.T) {
	t.Parallel()
	env := jobstest.NewOn(t, jobstest.Direct(t))
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	open(t, db, env.Tenant("acme", db.Name).OrgID, 5)
	settings := map[string]string{}
	for name, value := range worst {
		settings[name] = value
	}
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		settings[name] = "100ms" // the look at the start goes through the program's own pool
	}
	cfg := env.Config()
	cfg.Pool, _ = login(t, env, settings)
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, transfer) })
	for n := range 20 {
		o := env.Run("acme", upward(n))
		require.Equal(t, jobs.Succeeded, o.State, o.Message)
		require.Equal(t, 1, o.Attempt)
	}
}

// Behind a pooler in transaction mode the login's settings are all there is: where
// they are not fit for the queue the worker says which, and does not start.
func TestAPoolersSessionsAreLookedAt(t *testing.T) {
	t.Parallel()
	env := jobstest.NewOn(t, jobstest.Direct(t))
	cfg := env.Config()
	var name string
	cfg.Pool, name = login(t, env, map[string]string{
		"default_transaction_isolation": "serializable", "standard_conforming_strings": "off", "statement_timeout": "1s"})
	cfg.PollOnly = true
	w, err := worker.New(cfg)
	require.NoError(t, err)
	worker.InTx(w, transfer)
	err = w.Start(context.Background())
	require.ErrorContains(t, err, "default_transaction_isolation is serializable")
	require.ErrorContains(t, err, "standard_conforming_strings is off")
	require.ErrorContains(t, err, "statement_timeout is 1000ms")
	for _, sql := range []string{" SET default_transaction_isolation = 'read committed'", " SET standard_conforming_strings = 'on'", " SET statement_timeout = '0'"} {
		order := fmt.Sprintf(`ALTER ROLE "%s"%s`, name, sql)
		require.ErrorContains(t, err, order)
		_, err := env.Pool.Exec(context.Background(), order)
		require.NoError(t, err)
	}
	cfg.Pool.Reset()
	require.NoError(t, w.Start(context.Background()), "after what it said was done")
	require.NoError(t, w.Stop(context.Background()))
}

// A worker whose sessions find another queue, or none, does not start, and says what
// to do.
func TestAWorkerFindsItsQueueOrDoesNotStart(t *testing.T) {
	t.Parallel()
	env := jobstest.NewOn(t, jobstest.Direct(t))
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `CREATE SCHEMA app; CREATE TABLE app.river_job (LIKE public.river_job)`)
	require.NoError(t, err)
	for path, says := range map[string]string{
		"app, public": "another one in schema app, for its search_path is app, public: ALTER ROLE",
		"''":          "finds none, for its search_path is empty: ALTER ROLE",
	} {
		t.Run(path, func(t *testing.T) {
			cfg := env.Config()
			var name string
			cfg.Pool, name = login(t, env, map[string]string{"search_path": path})
			w, err := worker.New(cfg)
			require.NoError(t, err)
			worker.InTx(w, transfer)
			err = w.Start(ctx)
			require.ErrorContains(t, err, "the queue is in schema public")
			require.ErrorContains(t, err, says)
			order := fmt.Sprintf(`ALTER ROLE "%s" SET search_path = "public"`, name)
			require.ErrorContains(t, err, order)
			_, err = env.Pool.Exec(ctx, order)
			require.NoError(t, err)
			cfg.Pool.Reset()
			require.NoError(t, w.Start(ctx), "after what it said was done")
			require.NoError(t, w.Stop(ctx))
		})
	}
}

// A worker behind a pooler hears of jobs also where its login's search_path begins with another
// schema than the queue's: of a login that is called headgate it begins with schema headgate.
func TestAPooledWorkerHearsWhateverItsSearchPath(t *testing.T) {
	t.Parallel()
	if jobstest.Bounced() {
		t.Skip("the pooler has the sessions of before")
	}
	env, _, _ := acme(t)
	_, err := env.Pool.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = headgate, public', current_database()); END $$`)
	require.NoError(t, err)
	env.Pool.Reset()
	cfg := env.Config()
	cfg.PollOnly, cfg.Listen, cfg.PollInterval = true, env.Pool, time.Hour
	env.Work(&cfg, ends)
	for range 3 { // the first may be found by the first look
		job, err := env.Client.Enqueue(t.Context(), "acme", Ending{}, nil)
		require.NoError(t, err)
		require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
	}
}

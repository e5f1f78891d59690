package queue_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// twoQueues is a central database with tables of River's own in another schema, as
// of an application that uses River itself, and a client on a pool whose sessions
// find those first.
func twoQueues(t *testing.T) (env *jobstest.Env, lost *orchestrator.Client, pool *pgxpool.Pool) {
	t.Helper()
	env = jobstest.NewOn(t, jobstest.Direct(t))
	env.Database("shared", jobstest.DatabaseOpts{})
	env.Tenant("acme", "shared")
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `CREATE SCHEMA app; CREATE TABLE app.river_job (LIKE public.river_job INCLUDING ALL)`)
	require.NoError(t, err)
	cfg := env.Pool.Config()
	cfg.ConnConfig.RuntimeParams["search_path"] = "app, public"
	pool, err = pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	lost, err = orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
	require.NoError(t, err)
	return env, lost, pool
}

// A client whose pool finds another queue does nothing, whatever it is asked: none of
// its jobs would ever run.
func TestAClientKnowsItsQueue(t *testing.T) {
	t.Parallel()
	env, lost, pool := twoQueues(t)
	ctx := context.Background()
	var other *migrations.QueueError
	refused := func(err error) {
		t.Helper()
		require.ErrorAs(t, err, &other)
		require.ErrorContains(t, err, "the queue is in schema public of the central database")
		require.ErrorContains(t, err, "another one in schema app, for its search_path is app, public: ALTER ROLE")
	}
	first, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "a"}, nil)
	require.NoError(t, err)
	_, err = lost.Enqueue(ctx, "acme", roomtest.Note{Text: "b"}, nil)
	refused(err)
	_, err = lost.EnqueueMany(ctx, []jobs.EnqueueParams{{Tenant: "acme", Args: roomtest.Note{Text: "b"}}})
	refused(err)
	_, err = lost.Job(ctx, first.UID)
	refused(err)
	_, _, err = lost.Jobs(ctx, jobs.JobFilter{})
	refused(err)
	explainer, err := explain.New(explain.Config{Pool: pool, Catalog: env.Catalog})
	require.NoError(t, err)
	_, err = explainer.Explain(ctx, first.UID)
	refused(err)
	_, err = lost.Cancel(ctx, first.UID, nil)
	refused(err)
	_, err = lost.Retry(ctx, first.UID)
	refused(err)
	_, err = lost.Rerun(ctx, first.UID, nil)
	refused(err)
	var n int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM app.river_job`).Scan(&n))
	require.Zero(t, n)
}

// In the application's own transaction, whose search_path is the application's, a job
// goes into the one queue all the same, and its workers hear of it.
func TestAnApplicationsSessionEnqueuesIntoTheOneQueue(t *testing.T) {
	t.Parallel()
	env, lost, pool := twoQueues(t)
	ctx := context.Background()
	listener, err := pgx.ConnectConfig(ctx, env.Pool.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close(ctx) })
	_, err = listener.Exec(ctx, `LISTEN "public.river_insert"`)
	require.NoError(t, err)
	for _, client := range []*orchestrator.Client{env.Client, lost} {
		require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := client.EnqueueTx(ctx, tx, "acme", roomtest.Note{Text: "a"}, nil)
			if err == nil {
				_, err = client.EnqueueManyTx(ctx, tx, []jobs.EnqueueParams{{Tenant: "acme", Args: roomtest.Note{Text: "b"}}})
			}
			return err
		}))
		_, err = listener.WaitForNotification(ctx)
		require.NoError(t, err)
	}
	var here, there int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM public.river_job), (SELECT count(*) FROM app.river_job)`).Scan(&here, &there))
	require.Equal(t, []int{4, 0}, []int{here, there})
}

// Where the server takes Go's text for another encoding's, nothing is enqueued: the
// worker would read other text.
func TestAClientSpeaksUTF8(t *testing.T) {
	t.Parallel()
	env := jobstest.NewOn(t, jobstest.Direct(t))
	env.Database("shared", jobstest.DatabaseOpts{})
	env.Tenant("acme", "shared")
	ctx := context.Background()
	cfg := env.Pool.Config()
	cfg.ConnConfig.RuntimeParams["client_encoding"] = "LATIN1"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
	require.NoError(t, err)
	const says = "client_encoding of the session to the central database is LATIN1, and Go's text is UTF-8: add client_encoding=UTF8 to the connection string"
	_, err = client.Enqueue(ctx, "acme", roomtest.Note{Text: "Zoë"}, nil)
	require.ErrorContains(t, err, says)
	_, _, err = client.Jobs(ctx, jobs.JobFilter{})
	require.ErrorContains(t, err, says)
	require.ErrorContains(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := env.Client.EnqueueTx(ctx, tx, "acme", roomtest.Note{Text: "Zoë"}, nil)
		return err
	}), says)
}

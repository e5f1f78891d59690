package orchestrator_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
)

// A scheduler that stops while it reads the schedules that it claims, or writes their
// jobs, keeps its batch for seconds: no timeout of Postgres's counts that wait, so others
// end its session.
func TestASchedulerThatStallsLosesItsBatch(t *testing.T) {
	t.Parallel()
	type freeze = func(testing.TB, *pgxpool.Pool, string) (*pgxpool.Pool, func())
	for what, c := range map[string]struct {
		freeze    freeze
		statement string
	}{"claims": {jobstest.FreezeReading, "FOR UPDATE OF s SKIP LOCKED"}, "copies": {jobstest.FreezeWriting, "copy \"public\".\"river_job\""}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := setup(t)
			dueSchedules(t, env, 1000)
			ended := make(chan struct{})
			t.Cleanup(func() { <-ended }) // after it has gone on
			pool, frozen := c.freeze(t, env.Pool, c.statement)
			client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
			require.NoError(t, err)
			go func() {
				defer close(ended)
				_, _, _ = orchestrator.RunOnce(orchestrator.NewScheduler(client, orchestrator.SchedulerConfig{}), context.Background())
			}()
			frozen()
			s := orchestrator.NewScheduler(env.Client, orchestrator.SchedulerConfig{})
			began := time.Now()
			for fired(t, env) < 1000 {
				_, _, err := orchestrator.RunOnce(s, context.Background())
				require.NoError(t, err)
				require.Less(t, time.Since(began), time.Minute)
			}
			t.Logf("all have fired %s after it stopped", time.Since(began).Round(100*time.Millisecond))
		})
	}
}

// An application's transaction that has enqueued, and reads a long answer of its own since
// then, is not Headgate's to end, however slowly it reads.
func TestASlowReaderOfTheApplicationsIsLeftAlone(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	read := make(chan error, 1)
	t.Cleanup(func() { require.NoError(t, <-read, "it goes on in the end") })
	pool, frozen := jobstest.FreezeReading(t, env.Pool, "'report'")
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
	require.NoError(t, err)
	go func() {
		read <- pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := client.EnqueueTx(ctx, tx, "acme", Note{"x"}, nil); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, `SELECT repeat('report', 1000) FROM generate_series(1, 1000)`)
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		})
	}()
	frozen()
	stalled := func() bool {
		return count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite' AND query_start < clock_timestamp() - interval '5 seconds'`) == 1
	}
	for deadline := time.Now().Add(time.Minute); !stalled(); {
		require.True(t, time.Now().Before(deadline))
	}
	require.Zero(t, count(t, env, `SELECT headgate.end_stalled_sessions()`))
	require.True(t, stalled())
}

// Rows that get no tombstone keep nobody from theirs, however many they are.
func TestThousandsOfOddRowsKeepNobodyFromATombstone(t *testing.T) {
	t.Parallel()
	for _, at := range []string{`never`, `2020-01-01T00:00:00Z`, `9999-01-01T00:00:00Z`} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			env := setup(t)
			do(t, env, `INSERT INTO river_job (kind, args, max_attempts, queue, metadata)
SELECT 'theirs', '{}', 3, 'nobodys', jsonb_build_object('cancel_attempted_at', $1::text) FROM generate_series(1, 2500)`, at)
			job := enqueue(t, env)
			runUnder(t, env, job.ID)
			do(t, env, `UPDATE river_job SET id = -7 WHERE id = $1`, job.ID) // which River does not give
			job.ID = -7
			_, err := env.Client.Cancel(context.Background(), job.UID, nil)
			require.NoError(t, err)
			age(t, env, job.ID)
			j, tombstones := janitor(t, env, orchestrator.JanitorConfig{}), 0
			for range 3 {
				tombstones += sweep(t, j).Tombstones
			}
			require.Equal(t, 1, tombstones)
		})
	}
}

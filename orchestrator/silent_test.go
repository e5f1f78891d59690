package orchestrator_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
)

// A scheduler that stops while it reads the answer to one of its statements keeps its
// batch for seconds: no timeout of Postgres's counts that wait, so others end its session.
func TestASchedulerThatStopsReadingLosesItsBatch(t *testing.T) {
	t.Parallel()
	for what, statement := range map[string]string{"claims": "FOR UPDATE OF s SKIP LOCKED", "inserts": "JobInsertFastMany"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := setup(t)
			dueSchedules(t, env, 1000)
			ended := make(chan struct{})
			t.Cleanup(func() { <-ended }) // after it has gone on
			pool, stopped := jobstest.FreezeReading(t, env.Pool, statement)
			client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
			require.NoError(t, err)
			go func() {
				defer close(ended)
				_, _, _ = orchestrator.RunOnce(orchestrator.NewScheduler(client, orchestrator.SchedulerConfig{}), context.Background())
			}()
			select {
			case <-stopped:
			case <-time.After(30 * time.Second):
				require.Fail(t, "it never stopped")
			}
			s := orchestrator.NewScheduler(env.Client, orchestrator.SchedulerConfig{})
			began := time.Now()
			require.Eventually(t, func() bool {
				_, _, err := orchestrator.RunOnce(s, context.Background())
				require.NoError(t, err)
				return fired(t, env) == 1000
			}, 30*time.Second, 200*time.Millisecond)
			t.Logf("all have fired %s after it stopped", time.Since(began).Round(100*time.Millisecond))
		})
	}
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

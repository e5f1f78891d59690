package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
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
			env := roomtest.Setup(t)
			dueSchedules(t, env, 1000)
			ended := make(chan struct{})
			t.Cleanup(func() { <-ended }) // after it has gone on
			pool, frozen := c.freeze(t, env.Applications(), c.statement)
			store, err := schedule.New(schedule.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
			require.NoError(t, err)
			go func() {
				defer close(ended)
				_, _, _ = schedule.NewScheduler(store, schedule.SchedulerConfig{}).RunOnce(context.Background())
			}()
			frozen()
			s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
			began := time.Now()
			for fired(t, env) < 1000 {
				_, _, err := s.RunOnce(context.Background())
				require.NoError(t, err)
				require.Less(t, time.Since(began), time.Minute)
			}
			t.Logf("all have fired %s after it stopped", time.Since(began).Round(100*time.Millisecond))
		})
	}
}

// stalledReader runs sql in a transaction, on a connection that stops reading in the middle
// of the answer, and returns when the session waits because of that. The session goes on
// at the end of the test; read is how the transaction ended then.
func stalledReader(t *testing.T, env *jobstest.Env, enqueues bool, sql string) (read chan error) {
	t.Helper()
	ctx := context.Background()
	read = make(chan error, 1)
	pool, frozen := jobstest.FreezeReading(t, env.Pool, "'report'")
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
	require.NoError(t, err)
	go func() {
		read <- pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if enqueues {
				if _, err := client.EnqueueTx(ctx, tx, "acme", roomtest.Note{Text: "x"}, nil); err != nil {
					return err
				}
			}
			rows, err := tx.Query(ctx, sql)
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		})
	}()
	frozen()
	require.Eventually(t, func() bool { _, some := stalledFor(t, env); return some }, time.Minute, time.Millisecond)
	return read
}

// stalledFor says since when the stalled reader has been at its statement.
func stalledFor(t *testing.T, env *jobstest.Env) (age time.Duration, some bool) {
	t.Helper()
	var seconds *float64
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT extract(epoch FROM max(clock_timestamp() - query_start))::float8 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'`).Scan(&seconds))
	if seconds == nil {
		return 0, false
	}
	return time.Duration(*seconds * float64(time.Second)), true
}

// An application's transaction that has enqueued and reads a long answer of its own since
// then is not Headgate's to end, however slowly it reads. Nor is one whose statement only
// speaks of writing.
func TestASlowReaderOfTheApplicationsIsLeftAlone(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		enqueues bool
		sql      string
	}{
		"has enqueued":      {true, `SELECT repeat('report', 1000) FROM generate_series(1, 1000)`},
		"speaks of writing": {false, `SELECT repeat('report', 1000), 'insert into headgate.schedules' FROM generate_series(1, 1000)`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			var read chan error
			t.Cleanup(func() { require.NoError(t, <-read, "it goes on in the end") })
			read = stalledReader(t, env, c.enqueues, c.sql)
			require.Eventually(t, func() bool { age, _ := stalledFor(t, env); return age > 5*time.Second }, time.Minute, 100*time.Millisecond)
			require.Zero(t, roomtest.Count(t, env, `SELECT headgate.end_stalled_sessions()`))
			_, some := stalledFor(t, env)
			require.True(t, some)
		})
	}
}

// Who holds what others need has four seconds, and no more.
func TestWhoPausesBrieflyIsLeftAlone(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	var reads []chan error
	t.Cleanup(func() {
		for _, read := range reads {
			require.Error(t, <-read, "its session is over")
		}
	})
	for early := false; !early; {
		require.Less(t, len(reads), 10, "this machine takes seconds from one statement to the next")
		reads = append(reads, stalledReader(t, env, false, `
WITH made AS (INSERT INTO headgate.pauses (scope, target) SELECT 'kind', gen_random_uuid() FROM generate_series(1, 1000) RETURNING target)
SELECT target, repeat('report', 1000) FROM made`))
		ended := roomtest.Count(t, env, `SELECT headgate.end_stalled_sessions()`)
		age, some := stalledFor(t, env)
		early = age < 4*time.Second
		require.True(t, !early || some && ended == 0, "it was ended after less than four seconds")
		require.Eventually(t, func() bool {
			_, some := stalledFor(t, env)
			return !some || roomtest.Count(t, env, `SELECT headgate.end_stalled_sessions()`) == 1
		}, time.Minute, 100*time.Millisecond)
	}
}

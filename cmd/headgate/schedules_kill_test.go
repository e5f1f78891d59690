package main

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// insertDue are schedules, n of them, due at $2, with the tenants taking turns. All are
// daily, and have fired before.
const insertDue = `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, args, cron, zone, next_nominal_at, next_run_at, answered_at)
SELECT gen_random_uuid(), t.id, 'due-' || i, 'due', '{"n": 1}', '0 3 * * *', 'UTC', $2, $2, $2::timestamptz - interval '1 day'
FROM generate_series(1, $1::int) AS i
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n, count(*) OVER () AS all FROM headgate.tenants) t ON t.n = i % t.all`

// selectDue is whether anything is still due at $1.
const selectDue = `SELECT EXISTS (SELECT FROM headgate.schedules WHERE next_run_at <= $1)`

// selectFired counts the jobs, the distinct ones among them, and the answers.
const selectFired = `SELECT count(*), count(DISTINCT metadata->>'job_uid'), (SELECT count(*) FROM headgate.occurrences) FROM river_job`

// killing lets schedules come due in one second and kills the processes that fire
// them.
type killing struct {
	schedules, processes, kills int
}

// Schedulers that are killed while they fire lose nothing and double nothing. The
// full size is TestFaultsKilledSchedulers.
func TestKilledSchedulersLoseNothing(t *testing.T) {
	t.Parallel()
	killing{schedules: 4000, processes: 2, kills: 2}.run(t)
}

func (k killing) run(t *testing.T) {
	ctx := context.Background()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for _, slug := range []string{"acme", "brick", "coal"} {
		env.Tenant(slug, "db")
	}
	start := func() *exec.Cmd {
		// Nobody serves the kind: what is counted stays in the queue.
		cmd, output := c.process("serve", "--slots", "1")
		require.NoError(t, cmd.Start())
		output.await(t, "started")
		return cmd
	}
	running := make([]*exec.Cmd, k.processes)
	for i := range running {
		running[i] = start()
	}
	due := time.Now().Add(200 * time.Millisecond)
	_, err := env.Pool.Exec(ctx, insertDue, k.schedules, due)
	require.NoError(t, err)
	fired := func() (n int) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.occurrences`).Scan(&n))
		return n
	}
	for kill := range k.kills {
		require.Eventually(t, func() bool { return fired() > kill*k.schedules/(k.kills+1) }, 2*time.Minute, 5*time.Millisecond)
		i := kill % len(running)
		require.NoError(t, running[i].Process.Kill())
		_ = running[i].Wait() // it was killed
		running[i] = start()
	}
	require.Eventually(t, func() bool { return fired() >= k.schedules }, 5*time.Minute, 20*time.Millisecond)
	took := time.Since(due)
	for _, cmd := range running {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
	}
	var some bool
	require.NoError(t, env.Pool.QueryRow(ctx, selectDue, due).Scan(&some))
	require.False(t, some, "schedules are due that nobody has fired")
	var jobs, distinct, answers int
	require.NoError(t, env.Pool.QueryRow(ctx, selectFired).Scan(&jobs, &distinct, &answers))
	require.Equal(t, [3]int{k.schedules, k.schedules, k.schedules}, [3]int{jobs, distinct, answers}, "jobs, distinct ones, answers")
	var schedules int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(DISTINCT (metadata->>'tenant', metadata->>'schedule')) FROM river_job`).Scan(&schedules))
	require.Equal(t, k.schedules, schedules)
	var p50, p99 float64
	require.NoError(t, env.Pool.QueryRow(ctx, `
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY late), percentile_cont(0.99) WITHIN GROUP (ORDER BY late)
FROM (SELECT extract(epoch FROM created_at - $1) AS late FROM river_job) l`, due).Scan(&p50, &p99))
	t.Logf("%d due in one moment, %d schedulers, %d killed: 0 doubled, 0 lost, all after %.1f s; lateness p50 %.2f s, p99 %.2f s",
		k.schedules, k.processes, k.kills, took.Seconds(), p50, p99)
}

//go:build faults && linux

package worker_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker/internal/fault"
)

// ghost makes a worker that is dead and has a job in hand, and returns the job's UID.
// The job's accounts are its own: a handler that was stopped keeps the rows of its
// accounts for its kind's IdleTimeout, and that is not measured here.
func ghost(t *testing.T, env *jobstest.Env, tenant bankTenant) string {
	t.Helper()
	uid, incarnation := uuid.Must(uuid.NewV7()).String(), uuid.Must(uuid.NewV7()).String()
	_, err := env.Pool.Exec(t.Context(), `
WITH w AS (INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1::uuid, 'ghost', '', 1, '{}', '{}'))
INSERT INTO river_job (kind, args, max_attempts, queue, state, attempt, attempted_at, attempted_by, metadata)
VALUES ('transfer', '{"from": 98, "to": 99, "amount": 1}', 25, $2, 'running', 1, now(), ARRAY[$1 || ':1'], jsonb_build_object('tenant', $3::text, 'job_uid', $4::text))`,
		incarnation, victimQueue, tenant.tenant.ID, uid)
	require.NoError(t, err)
	return uid
}

// Steps of transactions in a tenant's database, where worker/internal/fault stops the
// process.
const tenantStep = "tenant: "

var tenantSteps = []string{fault.Begun, fault.Finished, fault.Entombed}

const gapsSQL = `
SELECT what, max(extract(epoch FROM next - at))::float8 FROM (
    SELECT what, at, lead(at, 1, $2) OVER (PARTITION BY what ORDER BY at) AS next FROM (
        SELECT 'claims' AS what, attempted_at AS at FROM river_job WHERE attempted_at BETWEEN $1 AND $2
        UNION ALL SELECT 'ends', finalized_at FROM river_job WHERE finalized_at BETWEEN $1 AND $2
        UNION ALL SELECT 'firing', created_at FROM river_job WHERE metadata ? 'schedule' AND created_at BETWEEN $1 AND $2
        UNION ALL SELECT w, $1::timestamptz FROM unnest(ARRAY['claims', 'ends', 'firing']) w
    ) e
) g GROUP BY what`

// Whoever stops between two statements of a transaction of ours, others claim, end,
// fire and reap on within ten seconds. HEADGATE_FREEZE is a regular expression of the
// points to stop at, all by default.
func TestFaultsFreezing(t *testing.T) {
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", 6, nil)
	ctx := t.Context()
	for n := range 10 { // one of them is due every second
		start := time.Now().Add(time.Duration(n) * time.Second)
		_, err := env.Schedules.Create(ctx, schedule.Params{
			Tenant: tenants[n%len(tenants)].tenant.Slug, Name: fmt.Sprintf("ticks-%d", n), Args: upward(1), Spec: schedule.Spec{Queue: victimQueue, Cron: "@every 10s", Policy: schedule.Policy{Overlap: schedule.OverlapCancel, Start: &start}},
		})
		require.NoError(t, err)
	}
	living := func() (both []*exec.Cmd) {
		for n := range 2 {
			both = append(both, startFreezer(t, env, fmt.Sprintf("living-%d", n), tenants))
		}
		return both
	}
	alive := living()
	// A snapshot that stays makes the tables of claims be written anew.
	old, err := env.Pool.Acquire(ctx)
	require.NoError(t, err)
	t.Cleanup(old.Release)
	_, err = old.Exec(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM headgate.tenants LIMIT 1`)
	require.NoError(t, err)
	log := t.TempDir() + "/points"
	recorder := startFreezer(t, env, "recorder", tenants, envFreezeLog+"="+log)
	record, window := 60*time.Second, 12*time.Second
	if testing.Short() {
		record = 8 * time.Second
	}
	uids := []string{}
	for start := time.Now(); time.Since(start) < record; {
		if !testing.Short() && len(alive) > 0 && time.Since(start) > record/2 { // what only one process does, it does now
			for _, other := range alive {
				endProcess(other)
			}
			alive = nil
		}
		uids = append(uids, ghost(t, env, tenants[len(uids)%len(tenants)]))
		waitUntil(t, env, uids[len(uids)-1])
	}
	endProcess(recorder)
	if len(alive) == 0 {
		alive = living()
		waitUntil(t, env, ghost(t, env, tenants[0]))
	}
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	points := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(points)
	points = slices.Compact(points)
	if testing.Short() {
		points = slices.DeleteFunc(points, func(p string) bool {
			return !strings.HasPrefix(p, "SELECT l.lane") && !strings.HasPrefix(p, "WITH open AS") && !strings.HasPrefix(p, "UPDATE headgate.workers SET reaped_at")
		})
		require.NotEmpty(t, points, string(text))
	} else {
		require.GreaterOrEqual(t, len(points), 25, string(text))
		for _, step := range tenantSteps {
			points = append(points, tenantStep+step)
		}
	}
	if only := os.Getenv("HEADGATE_FREEZE"); only != "" {
		points = slices.DeleteFunc(points, func(p string) bool { return !regexp.MustCompile(only).MatchString(p) })
	}
	measureGaps(t, env, "(nobody stops)", ghost(t, env, tenants[0]), window)
	worst := 0.0
	for i, point := range points {
		at := envFreezeAt + "=" + point
		if step, ok := strings.CutPrefix(point, tenantStep); ok {
			at = "HEADGATE_STOP_AT=" + step
		}
		frozen := startFreezer(t, env, fmt.Sprintf("frozen-%d", i), tenants, at)
		meets := func(within time.Duration) bool {
			for deadline := time.Now().Add(within); !stopped(t, frozen) && time.Now().Before(deadline); pause(t, 500*time.Millisecond) {
				ghost(t, env, tenants[i%len(tenants)])                                        // something to reap
				_, err := env.Client.Cancel(ctx, ghost(t, env, tenants[i%len(tenants)]), nil) // and to settle
				require.True(t, err == nil || errors.Is(err, jobs.ErrJobFinished), "%v", err)
			}
			return stopped(t, frozen)
		}
		if !meets(20 * time.Second) { // what only one process does, the others do
			for _, other := range alive {
				endProcess(other)
			}
			met := meets(90 * time.Second)
			alive = living()
			if !met {
				t.Errorf("%-70s not met: nothing was shown of it", point)
				endProcess(frozen)
				continue
			}
			waitUntil(t, env, ghost(t, env, tenants[i%len(tenants)])) // they have started
		}
		for _, gap := range measureGaps(t, env, point, ghost(t, env, tenants[i%len(tenants)]), window) {
			worst = max(worst, gap)
		}
		endProcess(frozen)
	}
	t.Logf("%d points, worst %.1f s", len(points), worst)
	require.Less(t, worst, 10.0)
}

// measureGaps is for how long at most nothing was claimed, ended or fired within a
// window that begins now, and how long a dead worker's job took until it had succeeded.
func measureGaps(t *testing.T, env *jobstest.Env, point, uid string, window time.Duration) map[string]float64 {
	t.Helper()
	var from, to time.Time
	require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&from))
	began := time.Now()
	waitUntil(t, env, uid)
	took := time.Since(began)
	pause(t, window-took)
	require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&to))
	rows, err := env.Pool.Query(t.Context(), gapsSQL, from, to)
	require.NoError(t, err)
	gaps := map[string]float64{"reaping": took.Seconds()}
	var what string
	var gap float64
	_, err = pgx.ForEachRow(rows, []any{&what, &gap}, func() error { gaps[what] = gap; return nil })
	require.NoError(t, err)
	t.Logf("%-70s claims %4.1f s, ends %4.1f, firing %4.1f, reaping %4.1f", point, gaps["claims"], gaps["ends"], gaps["firing"], gaps["reaping"])
	return gaps
}

// waitUntil waits until a job has succeeded.
func waitUntil(t *testing.T, env *jobstest.Env, uid string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; pause(t, 50*time.Millisecond) {
		var done bool
		require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM headgate.outcomes WHERE job_uid = $1 AND state = 'succeeded')`, uid).Scan(&done))
		if done {
			return
		}
		require.True(t, time.Now().Before(deadline), "job %s has not ended in a minute", uid)
	}
}

// pause lets time pass: what is measured here is time.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// freezer is the process's main function, if it is one of these.
func freezer() bool {
	if os.Getenv(envFreezer) == "" {
		return false
	}
	if err := freezerMain(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// budget is that of the server in the tests of it, and as many tenants.
const budget = 8

func newBudgeted(t *testing.T) (*jobstest.Env, []bankTenant) {
	t.Helper()
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", budget, nil)
	_, err := env.Pool.Exec(t.Context(), `UPDATE headgate.servers SET connection_budget = $1`, budget)
	require.NoError(t, err)
	return env, tenants
}

// A process that stops while it has all of a server's budget idle keeps others from that
// server for ten seconds at most, though it is not declared dead for thirty.
func TestFaultsFreezingWithTheBudget(t *testing.T) {
	env, tenants := newBudgeted(t)
	ctx, list := t.Context(), map[string]order{}
	frozen := newVictim(t, env, "frozen", 10*time.Second, envVictimSlots+"=8")
	var uids []string
	for n := range 100 {
		uids = append(uids, accept(t, env, tenants, n, SlowTransfer{Transfer: upward(n), MS: 50}, list))
	}
	for _, uid := range uids {
		waitUntil(t, env, uid)
	}
	var idle int
	require.NoError(t, tenants[0].db.Pool.QueryRow(ctx, `
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'headgate%' AND state = 'idle'`).Scan(&idle))
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	began := time.Now()
	require.Equal(t, budget, idle, "the whole budget is idle when it stops")
	newVictim(t, env, "living", 10*time.Second)
	waitUntil(t, env, accept(t, env, tenants, 1, SlowTransfer{Transfer: upward(1), MS: 1}, list))
	took := time.Since(began)
	t.Logf("another worker's first job on that server was done %s after the process stopped", took.Round(100*time.Millisecond))
	require.Less(t, took, 10*time.Second)
}

// A process that stops while its jobs use all of a server's budget is declared dead before
// the server ends their sessions. Until then the others count them.
func TestFaultsFreezingWithRunningJobs(t *testing.T) {
	env, tenants := newBudgeted(t)
	ctx, list := t.Context(), map[string]order{}
	frozen := newVictim(t, env, "frozen", time.Second, envVictimSlots+"=8")
	for n := range budget {
		accept(t, env, tenants, n, SlowTransfer{Transfer: upward(n), MS: 1000}, list)
	}
	for range budget {
		receive(t, frozen.began)
	}
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	newVictim(t, env, "living", time.Second, envVictimSlots+"=16")
	for n := range 200 {
		accept(t, env, tenants, n, SlowTransfer{Transfer: upward(n), MS: 100}, list)
	}
	most, began := 0, time.Now()
	require.Eventually(t, func() bool {
		var sessions, done int
		require.NoError(t, env.Pool.QueryRow(ctx, `
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname <> current_database() AND application_name LIKE 'headgate%'),
       (SELECT count(*) FROM headgate.outcomes WHERE state = 'succeeded')`).Scan(&sessions, &done))
		most = max(most, sessions)
		return done == len(list)
	}, 5*time.Minute, 20*time.Millisecond)
	t.Logf("all %d jobs were done %s after the process stopped; %d sessions at most", len(list), time.Since(began).Round(time.Second), most)
	require.LessOrEqual(t, most, budget+2)
}

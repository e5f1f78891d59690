//go:build faults && linux

package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/internal/fault"
)

// A process of each kind that Headgate has, all in one: it works, schedules, cleans up,
// enqueues and administers, and stops itself (SIGSTOP) between two statements of one of
// the transactions of the central database. Where these points are is not written down
// but found: each statement after which a connection is left in a transaction is one.

const (
	envFreezer   = "HEADGATE_TEST_FREEZER"        // its ID; makes this binary such a process
	envFreezeAt  = "HEADGATE_TEST_FREEZE_AT"      // the point; "": never
	envFreezeLog = "HEADGATE_TEST_FREEZE_LOG"     // a file to which it writes the points that it passes
	envFreezeIn  = "HEADGATE_TEST_FREEZE_TENANTS" // slugs
)

// Chained is a transfer that asks for another.
type Chained struct{ Transfer }

func (Chained) Kind() string { return "chained" }

// points is a tracer of the central connections.
type points struct {
	mu   sync.Mutex
	seen map[string]bool
	log  *os.File
	at   string
}

type lastStatement struct{}

// pointOf names the point behind a statement by how it begins.
func pointOf(sql string) string {
	words := strings.Fields(sql)
	name := strings.Join(words[:min(len(words), 9)], " ")
	return name[:min(len(name), 70)]
}

func (p *points) pass(conn *pgx.Conn, sql string) {
	if conn.PgConn().TxStatus() != 'T' {
		return
	}
	point := pointOf(sql)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log != nil && !p.seen[point] {
		p.seen[point] = true
		_, _ = fmt.Fprintln(p.log, point)
	}
	if p.at != "" && point == p.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // a process may always signal itself
	}
}

func (p *points) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, lastStatement{}, &data.SQL)
}

func (p *points) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, ok := ctx.Value(lastStatement{}).(*string); ok {
		p.pass(conn, *sql)
	}
}

func (p *points) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return context.WithValue(ctx, lastStatement{}, new(string))
}

func (p *points) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if sql, ok := ctx.Value(lastStatement{}).(*string); ok {
		*sql = data.SQL
	}
}

func (p *points) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchEndData) {
	if sql, ok := ctx.Value(lastStatement{}).(*string); ok {
		p.pass(conn, *sql)
	}
}

func (p *points) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	sql := "COPY " + strings.Join(data.TableName, ".")
	return context.WithValue(ctx, lastStatement{}, &sql)
}

func (p *points) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	if sql, ok := ctx.Value(lastStatement{}).(*string); ok {
		p.pass(conn, *sql)
	}
}

// freezerMain is that process.
func freezerMain() error {
	ctx := context.Background()
	cfg, err := pgxpool.ParseConfig(os.Getenv(envVictimURL))
	if err != nil {
		return err
	}
	p := &points{seen: map[string]bool{}, at: os.Getenv(envFreezeAt)}
	if name := os.Getenv(envFreezeLog); name != "" {
		if p.log, err = os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	cfg.ConnConfig.Tracer = p
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, pool)
	if err != nil {
		return err
	}
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: cat})
	if err != nil {
		return err
	}
	w, err := worker.New(beatEvery(worker.Config{
		Pool: pool, Resolver: cat, ID: os.Getenv(envFreezer), Queues: map[string]int{victimQueue: 8},
		FetchCooldown: 20 * time.Millisecond, PollInterval: 200 * time.Millisecond, HoldFor: 200 * time.Millisecond,
	}, quickBeat))
	if err != nil {
		return err
	}
	registerVictimKinds(w, func(string) {})
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Chained]) error {
		return errors.Join(job.Follow(job.Args.Transfer, nil), transfer(ctx, tx, &jobs.Job[Transfer]{Info: job.Info, Args: job.Args.Transfer}))
	})
	worker.InTx(w, transfer)
	orchestrator.NewScheduler(client, orchestrator.SchedulerConfig{MaxSleep: 200 * time.Millisecond}).Start()
	janitor, err := orchestrator.NewJanitor(client, orchestrator.JanitorConfig{Every: time.Second})
	if err != nil {
		return err
	}
	janitor.Start()
	go administer(ctx, pool, client, strings.Split(os.Getenv(envFreezeIn), ","))
	return w.Run(ctx)
}

// administer does what people and applications do, again and again.
func administer(ctx context.Context, pool *pgxpool.Pool, client *orchestrator.Client, slugs []string) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		slug := slugs[n%len(slugs)]
		opts := enqueueTo(victimQueue)
		_, _ = client.Enqueue(ctx, slug, Chained{upward(n)}, opts)
		if r, err := client.Enqueue(ctx, slug, SlowTransfer{Transfer: upward(n), MS: 50}, &orchestrator.EnqueueOpts{Queue: victimQueue, IdempotencyKey: fmt.Sprint(os.Getpid(), n)}); err == nil && n%5 == 0 {
			_, _ = client.Cancel(ctx, r.UID, nil)
		}
		if n%10 == 0 {
			most := 5
			_, _ = client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: slug, MaxRunning: &most})
			_, _ = client.Pause(ctx, orchestrator.OfKind, "poison", nil)
			_, _ = client.Resume(ctx, orchestrator.OfKind, "poison")
			of := orchestrator.ScheduleOf{Tenant: slug, Name: "ticks-0"}
			_ = client.PauseSchedule(ctx, of, nil)
			_ = client.ResumeSchedule(ctx, of, "test")
			_, _ = pool.Exec(ctx, `UPDATE headgate.tenants SET labels = labels || jsonb_build_object('n', $2::int::text) WHERE slug = $1`, slug, n) // which selectors may ask for
		}
		<-pace.C
	}
}

func startFreezer(t *testing.T, env *jobstest.Env, id string, tenants []bankTenant, more ...string) *exec.Cmd {
	t.Helper()
	var slugs []string
	for _, tenant := range tenants {
		slugs = append(slugs, tenant.tenant.Slug)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), envFreezer+"="+id, envVictimURL+"="+env.URL, "HEADGATE_KEY="+env.Key, envFreezeIn+"="+strings.Join(slugs, ",")), more...)
	if file := os.Getenv("HEADGATE_TEST_VICTIM_LOG"); file != "" {
		log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		cmd.Stderr = log
		t.Cleanup(func() { _ = log.Close() })
	}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { endProcess(cmd) })
	return cmd
}

func endProcess(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// stopped says whether a process is.
func stopped(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	require.NoError(t, err, "it has ended of itself")
	return strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+2:]), "T")
}

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
		_, err := env.Client.CreateSchedule(ctx, orchestrator.ScheduleParams{
			Tenant: tenants[n%len(tenants)].tenant.Slug, Name: fmt.Sprintf("ticks-%d", n), Args: upward(1), Cron: "@every 10s", Opts: enqueueTo(victimQueue),
			Policy: orchestrator.SchedulePolicy{Overlap: orchestrator.OverlapCancel, Start: &start},
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
				require.True(t, err == nil || errors.Is(err, orchestrator.ErrJobFinished), "%v", err)
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

// A process that stops while it has all of a server's budget idle keeps others from that
// server for ten seconds at most, though it is not declared dead for thirty.
func TestFaultsFreezingWithTheBudget(t *testing.T) {
	env := jobstest.New(t)
	tenants := newTenants(t, env, "bank", 8, nil)
	ctx := t.Context()
	const budget = 8
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.servers SET connection_budget = $1`, budget)
	require.NoError(t, err)
	list := map[string]order{}
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

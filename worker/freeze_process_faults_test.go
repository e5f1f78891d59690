//go:build faults && linux

package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/suspend"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
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
		suspend.Process()
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
	schedules, err := schedule.New(schedule.Config{Pool: pool, Catalog: cat})
	if err != nil {
		return err
	}
	if err := schedule.NewScheduler(schedules, schedule.SchedulerConfig{MaxSleep: 200 * time.Millisecond}).Start(ctx); err != nil {
		return err
	}
	janitor, err := retention.New(retention.Config{Pool: pool, Selectors: schedules.Templates, Every: time.Second, PruneEvery: 2 * time.Second})
	if err != nil {
		return err
	}
	if err := janitor.Start(ctx); err != nil {
		return err
	}
	control, err := admission.New(admission.Config{Pool: pool, Catalog: cat})
	if err != nil {
		return err
	}
	go administer(ctx, pool, client, schedules, control, strings.Split(os.Getenv(envFreezeIn), ","))
	return w.Run(ctx)
}

// administer does what people and applications do, again and again.
func administer(ctx context.Context, pool *pgxpool.Pool, client *orchestrator.Client, schedules *schedule.Store, control *admission.Control, slugs []string) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		slug := slugs[n%len(slugs)]
		opts := &jobs.EnqueueOpts{Queue: victimQueue, Priority: 2} // a backlog of these is no matter of what is measured
		_, _ = client.Enqueue(ctx, slug, Chained{upward(n)}, opts)
		if r, err := client.Enqueue(ctx, slug, SlowTransfer{Transfer: upward(n), MS: 50}, &jobs.EnqueueOpts{Queue: victimQueue, Priority: 2, IdempotencyKey: fmt.Sprint(os.Getpid(), n)}); err == nil && n%5 == 0 {
			_, _ = client.Cancel(ctx, r.UID, nil)
		}
		if n%10 == 0 {
			most := 5
			_, _ = control.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: slug, MaxRunning: &most})
			_, _ = control.Pause(ctx, admission.OfKind, "poison", nil)
			_, _ = control.Resume(ctx, admission.OfKind, "poison")
			of := schedule.Key{Tenant: slug, Name: "ticks-0"}
			_ = schedules.Pause(ctx, of, nil)
			_ = schedules.Resume(ctx, of, "test")
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

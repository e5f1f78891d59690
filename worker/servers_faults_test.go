//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// Touch writes one row of some size into its tenant's database.
type Touch struct {
	Bytes int `json:"bytes"`
	MS    int `json:"ms,omitempty"` // asleep before, in its transaction
}

func (Touch) Kind() string { return "touch" }

const touched = `
CREATE TABLE touched (job_uid uuid NOT NULL, pad text NOT NULL, org_id bigint NOT NULL DEFAULT headgate.current_org());
ALTER TABLE touched ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON touched TO headgate_job USING (org_id = (SELECT headgate.current_org()));
ALTER TABLE touched ALTER COLUMN pad SET STORAGE EXTERNAL; -- no compression: its bytes are on the disk
GRANT INSERT ON touched TO headgate_job;`

func touch(ctx context.Context, tx pgx.Tx, job *jobs.Job[Touch]) error {
	if job.Args.MS > 0 {
		if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, float64(job.Args.MS)/1000); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO touched (job_uid, pad) VALUES ($1, $2)`, job.UID, strings.Repeat("x", job.Args.Bytes))
	return err
}

// sick is a tenant whose database or server is not well.
type sick struct {
	name    string
	classes []string // what its jobs may say
	db      *jobstest.Database
	fall    func(t *testing.T) // makes it ill
	heal    func(t *testing.T) // nil: it does not get well
}

// Every way in which a tenant's database can fail, at once, beside twenty
// healthy tenants: each is called by its name, no job uses an attempt for it, no
// slot is held for much longer than the job's own time, the healthy ones do not
// notice, and what gets well has its effects, once.
func TestFaultsSickServers(t *testing.T) {
	t.Parallel()
	calm, ill := 15*time.Second, 30*time.Second
	if testing.Short() {
		calm, ill = 4*time.Second, 8*time.Second
	}
	const timeout = 3 * time.Second
	env := jobstest.New(t)
	var healthy, patients []string
	for i := range 20 {
		name := fmt.Sprintf("healthy-%d", i)
		env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", Schema: touched})
		healthy = append(healthy, env.Tenant(name, name).Slug)
	}
	all := sickServers(t, env)
	for _, s := range all {
		patients = append(patients, env.Tenant(s.name, s.name).Slug)
	}
	cfg := withQueue(env.Config(), "default")
	cfg.Queues["default"], cfg.Logger, cfg.JobTimeout = 60, quietLogger(), timeout
	cfg.HoldFor = time.Second
	cfg.Tenants.ConnectTimeout, cfg.Tenants.CancelWait, cfg.Tenants.MaxConns = 2*time.Second, time.Second, 60
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, touch) })

	flow := newFlow(env)
	flow.run(t, calm, healthy, 40, patients, 2*len(patients)) // warms up
	first := flow.run(t, calm, healthy, 40, patients, 2*len(patients))
	// The ill have idle connections when they fall.
	flow.asleep(t, all[1].db, "black-holed", 3) // cut off in the middle
	for _, s := range all {
		s.fall(t)
	}
	second := flow.run(t, ill, healthy, 40, patients, 2*len(patients))
	for _, s := range all {
		if s.heal != nil {
			s.heal(t)
		}
	}
	flow.settle(t, healthy, time.Minute)

	for i, s := range all {
		var seen []string
		var failed, used int
		var longest float64
		require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT coalesce(array_agg(DISTINCT class) FILTER (WHERE state <> 'succeeded'), '{}'), count(*) FILTER (WHERE state NOT IN ('succeeded', 'snoozed')),
       count(*) FILTER (WHERE attempt > 1), max(extract(epoch FROM ended_at - started_at))
FROM headgate.outcomes o JOIN headgate.tenants t ON t.id = o.tenant_id WHERE t.slug = $1`, patients[i]).Scan(&seen, &failed, &used, &longest))
		t.Logf("%-16s %v, its slots held for at most %.1f s", s.name, seen, longest)
		require.NotEmpty(t, seen, "%s did no harm", s.name)
		require.Subset(t, s.classes, seen, "%s: %s", s.name, strings.Join(flow.reasons(t, patients[i], s.classes), "\n"))
		require.Contains(t, seen, s.classes[0], s.name)
		require.Zero(t, failed, "%s: an attempt was used for what is not the job's fault", s.name)
		require.Zero(t, used, "%s: an attempt was used for what is not the job's fault", s.name)
		require.Less(t, longest, (timeout + 5*time.Second).Seconds(), s.name)
	}
	t.Logf("healthy tenants, from enqueue to the attempt's start: p50 %.1f ms and p99 %.1f ms while all are well, %.1f and %.1f beside the ill: %.2f of the median",
		ms(percentile(first, 0.5)), ms(percentile(first, 0.99)), ms(percentile(second, 0.5)), ms(percentile(second, 0.99)),
		float64(percentile(second, 0.5))/float64(percentile(first, 0.5)))
	require.Less(t, percentile(second, 0.99), time.Second, "the healthy ones waited for the ill")
	for i, s := range all {
		if s.heal == nil {
			continue
		}
		flow.settle(t, patients[i:i+1], time.Minute)
		var rows, distinct int
		require.NoError(t, s.db.Pool.QueryRow(context.Background(), `SELECT count(*), count(DISTINCT job_uid) FROM touched`).Scan(&rows, &distinct))
		require.Equal(t, flow.accepted[patients[i]], rows, "%s: effects after it got well", s.name)
		require.Equal(t, rows, distinct, s.name)
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// sickServers are a server for each fault; the databases are well until they
// fall.
func sickServers(t *testing.T, env *jobstest.Env) []*sick {
	t.Helper()
	server := startPostgres(t, localpg.Config{})
	on := func(name string, via int) *jobstest.Postgres {
		return &jobstest.Postgres{Name: "server-" + name, URL: server.URL, Via: via}
	}
	database := func(name string, on *jobstest.Postgres) *jobstest.Database {
		return env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", Schema: touched, On: on})
	}
	sql := func(t *testing.T, url string, statements ...string) {
		t.Helper()
		conn, err := pgx.Connect(context.Background(), url)
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		for _, statement := range statements {
			_, err := conn.Exec(context.Background(), statement)
			require.NoError(t, err, statement)
		}
	}

	dead := newProxy(t, server.URL(""), nil)
	deadDB := database("dead", on("dead", dead.port))
	hole := newProxy(t, server.URL(""), nil)
	holeDB := database("black-holed", on("black-holed", hole.port))
	openHole := blackHole(t, hole.port)
	password := database("wrong-password", on("wrong-password", 0))
	readOnly := startPostgres(t, localpg.Config{})
	readOnlyDB := database("read-only", &jobstest.Postgres{Name: "server-read-only", URL: readOnly.URL})
	full := startPostgres(t, localpg.Config{MaxConnections: 40})
	fullDB := database("full", &jobstest.Postgres{Name: "server-full", URL: full.URL})
	disk := database("full-disk", on("full-disk", 0))
	small := tablespace(t, server, 2<<20)
	sql(t, server.URL(disk.Job.Database), `CREATE TABLESPACE small LOCATION '`+small+`'`, `ALTER TABLE touched SET TABLESPACE small`)
	t.Cleanup(func() { sql(t, server.URL(disk.Job.Database), `DROP TABLE touched`, `DROP TABLESPACE small`) })

	var crowd []*pgx.Conn
	return []*sick{
		{name: "dead", db: deadDB, classes: []string{"unreachable", "interrupted"}, fall: func(*testing.T) { _ = dead.listener.Close(); dead.cutAll() }},
		{name: "black-holed", db: holeDB, classes: []string{"interrupted", "unreachable", "connect_timeout"}, fall: func(*testing.T) { openHole(true) }, heal: func(*testing.T) { openHole(false) }},
		{
			name: "wrong-password", db: password, classes: []string{"auth_failed", "interrupted"},
			fall: func(t *testing.T) {
				sql(t, server.URL(""), fmt.Sprintf(`ALTER ROLE %s PASSWORD 'another'`, password.Job.User),
					fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'`, password.Job.User))
			},
			heal: func(t *testing.T) {
				sql(t, server.URL(""), fmt.Sprintf(`ALTER ROLE %s PASSWORD '%s'`, password.Job.User, password.Job.Password.Reveal()))
				err := env.Catalog.Logins().Set(context.Background(), "wrong-password", jobs.LoginJob, password.Job) // what an operator does
				require.NoError(t, err)
			},
		},
		{
			name: "read-only", db: readOnlyDB, classes: []string{"read_only"},
			fall: func(t *testing.T) {
				sql(t, readOnly.URL(""), `ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`)
			},
			heal: func(t *testing.T) {
				sql(t, readOnly.URL(""), `SET default_transaction_read_only = off`, `ALTER SYSTEM RESET default_transaction_read_only`, `SELECT pg_reload_conf()`)
			},
		},
		{
			name: "full", db: fullDB, classes: []string{"server_full", "interrupted"},
			fall: func(t *testing.T) {
				sql(t, full.URL(""), fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'`, fullDB.Job.User))
				for {
					conn, err := pgx.Connect(context.Background(), full.URL(""))
					if err != nil {
						return
					}
					crowd = append(crowd, conn)
				}
			},
			heal: func(*testing.T) {
				for _, conn := range crowd {
					_ = conn.Close(context.Background())
				}
			},
		},
		{
			name: "full-disk", db: disk, classes: []string{"disk_full"},
			fall: func(t *testing.T) {
				err := os.WriteFile(filepath.Join(small, "filler"), make([]byte, 4<<20), 0o600)
				require.ErrorIs(t, err, syscall.ENOSPC)
			},
			heal: func(t *testing.T) { require.NoError(t, os.Truncate(filepath.Join(small, "filler"), 0)) },
		},
	}
}

// blackHole returns what makes packets to and from a port of 127.0.0.1 vanish, as
// behind a firewall or a host that is gone: no reset, no answer.
func blackHole(t *testing.T, port int) func(vanish bool) {
	t.Helper()
	there := false
	set := func(vanish bool) {
		if vanish == there {
			return
		}
		there = vanish
		flag := map[bool]string{true: "-I", false: "-D"}[vanish]
		for _, side := range []string{"--dport", "--sport"} {
			out, err := exec.Command("iptables", "-w", flag, "INPUT", "-i", "lo", "-p", "tcp", side, strconv.Itoa(port), "-j", "DROP").CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
	t.Cleanup(func() { set(false) })
	return set
}

// tablespace makes a directory of its own file system, so small that it can be
// filled, for a server.
func tablespace(t *testing.T, server *localpg.Server, size int) string {
	t.Helper()
	top, err := os.MkdirTemp("", "headgate-small-*") // not t.TempDir, which the server's account cannot enter
	require.NoError(t, err)
	require.NoError(t, os.Chmod(top, 0o755)) // the server's account walks through it
	require.NoError(t, syscall.Mount("tmpfs", top, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)))
	t.Cleanup(func() {
		require.NoError(t, syscall.Unmount(top, 0))
		require.NoError(t, os.Remove(top))
	})
	dir := filepath.Join(top, "space")
	require.NoError(t, os.Mkdir(dir, 0o700))
	proc, err := os.Stat("/proc/" + strconv.Itoa(server.PID()))
	require.NoError(t, err)
	owner := proc.Sys().(*syscall.Stat_t)
	require.NoError(t, os.Chown(dir, int(owner.Uid), int(owner.Gid)))
	require.NoError(t, os.Chown(top, int(owner.Uid), int(owner.Gid)))
	return dir
}

// One server of three is down for a minute under load: the jobs of the other two
// go on, its own wait without using an attempt, are at work again soon after it
// is back, and do not then overrun it, for three workers; of whom one tells of it.
func TestFaultsOneServerOfThree(t *testing.T) {
	t.Parallel()
	down, rate := time.Minute, 60
	if testing.Short() {
		down = 6 * time.Second
	}
	const budget = 6
	env := jobstest.New(t)
	var servers [3]*localpg.Server
	var tenants, users [3][]string
	for i := range servers {
		servers[i] = startPostgres(t, localpg.Config{})
		on := &jobstest.Postgres{Name: fmt.Sprintf("server-%d", i), URL: servers[i].URL}
		for j := range 4 {
			name := fmt.Sprintf("t%d-%d", i, j)
			db := env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", Schema: touched, On: on})
			tenants[i] = append(tenants[i], env.Tenant(name, name).Slug)
			users[i] = append(users[i], db.Job.User)
		}
		_, err := env.Catalog.SetServer(context.Background(), on.Name, catalog.ServerChange{Budget: new(budget)})
		require.NoError(t, err)
	}
	alerts := &told{lines: map[string]int{}}
	for range 3 {
		cfg := withQueue(env.Config(), "default")
		cfg.Queues["default"], cfg.Logger = 12, lockedLogger(alerts)
		env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, touch) })
	}

	flow := newFlow(env)
	flow.run(t, 2*time.Second, slices.Concat(tenants[0], tenants[1], tenants[2]), rate, nil, 0)
	require.NoError(t, syscall.Kill(servers[0].PID(), syscall.SIGQUIT)) // as pg_ctl stop -m immediate
	well := slices.Concat(tenants[1], tenants[2])
	began := time.Now()
	waits := flow.run(t, down, well, rate*2/3, tenants[0], rate/3)
	inTime := 0
	for _, w := range waits {
		if w < time.Second {
			inTime++
		}
	}
	require.NoError(t, servers[0].Restart(context.Background(), "fast"))
	back := time.Now()
	top := make(chan int, 1)
	over, stop := context.WithCancel(context.Background())
	go func() { top <- mostBackends(over, servers[0].URL(""), users[0]) }()
	var first time.Time
	require.Eventually(t, func() bool {
		err := env.Pool.QueryRow(context.Background(), `
SELECT o.started_at FROM headgate.outcomes o JOIN headgate.tenants t ON t.id = o.tenant_id
WHERE t.slug = ANY ($1) AND o.state = 'succeeded' AND o.ended_at > $2 ORDER BY o.ended_at LIMIT 1`, tenants[0], back).Scan(&first)
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	flow.settle(t, tenants[0], 2*time.Minute)
	settled := time.Since(back)
	stop()
	highest := <-top

	var attempts, used int
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT count(*), count(*) FILTER (WHERE attempt > 1 OR state NOT IN ('succeeded', 'snoozed')) FROM headgate.outcomes`).Scan(&attempts, &used))
	waited := flow.total(tenants[0])
	t.Logf("down for %s: %d of %d jobs of the others began within a second (p99 %.0f ms); %d jobs of its own, the first %.1f s after its return, all of them %.1f s after it, at most %d connections of %d; %d attempts, %d used for it",
		back.Sub(began).Round(time.Second), inTime, len(waits), ms(percentile(waits, 0.99)), waited, first.Sub(back).Seconds(), settled.Seconds(), highest, budget, attempts, used)
	require.GreaterOrEqual(t, float64(inTime), 0.95*float64(len(waits)))
	require.Less(t, first.Sub(back), 15*time.Second)
	require.LessOrEqual(t, highest, budget+2)
	require.Zero(t, used)
	require.Equal(t, map[string]int{"server does not answer": 1, "server answers again": 1}, alerts.lines, "three workers, one alert")
}

// mostBackends counts the backends of users every 20 ms until ctx ends.
func mostBackends(ctx context.Context, url string, users []string) (most int) {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return 1 << 20 // whoever asked will notice
	}
	defer func() { _ = conn.Close(context.Background()) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		if err := conn.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE usename = ANY ($1)`, users).Scan(&n); err != nil {
			return 1 << 20
		}
		most = max(most, n)
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
		}
	}
}

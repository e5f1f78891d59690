package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// measured is a database on a server of the test's own, because one capacity test at a time
// runs on a server; and an administrator who is no superuser.
type measured struct {
	*commandLine
	env    *jobstest.Env
	server *localpg.Server
	dbname string
	owner  string // the owner login
}

func newMeasured(t *testing.T) *measured {
	t.Helper()
	c, env := setup(t)
	server, err := localpg.Start(t.Context(), localpg.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	db := env.Database("shared-1", jobstest.DatabaseOpts{On: &jobstest.Postgres{Name: "own", URL: server.URL}})
	db.Pool.Reset() // nobody may be connected to what is copied
	m := &measured{env: env, server: server, dbname: db.Owner.Database, owner: db.Owner.User}
	execute(t, server.URL("postgres"),
		`CREATE ROLE planted_admin LOGIN NOSUPERUSER CREATEDB PASSWORD '`+adminPassword+`'`,
		`ALTER DATABASE "`+m.dbname+`" OWNER TO "`+db.Owner.User+`"`,
		`GRANT "`+db.Owner.User+`" TO planted_admin`)
	at := &site{host: server.SocketDir(), port: uint16(server.Port())}
	m.commandLine = c.with("HEADGATE_ADMIN_URL", at.address("planted_admin", adminPassword, "postgres"))
	m.secrets = append(m.secrets, adminPassword)
	return m
}

// tiny is a command line whose steps are over soon, and good on any machine.
func tiny(more ...string) []string {
	args := append([]string{"database", "capacity", "shared-1", "--first", "2", "--for", "1s", "--jobs-per-tenant-hour", "18000", "--rows", "20"}, more...)
	for _, given := range [][2]string{{"--most", "5"}, {"--p95", "5m"}} {
		if !slices.Contains(more, given[0]) {
			args = append(args, given[:]...)
		}
	}
	return args
}

// count returns the number that a query of the own server gives.
func (m *measured) count(sql string) (n int) {
	m.t.Helper()
	conn, err := pgx.Connect(context.Background(), m.server.URL("postgres"))
	require.NoError(m.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	require.NoError(m.t, conn.QueryRow(context.Background(), sql).Scan(&n))
	return n
}

const copiesSQL = `SELECT count(*)::int FROM pg_database WHERE datname LIKE 'headgate\_capacity\_%'`

// most looks at the sessions of the server, the test's own left out, until the returned
// function is called, which says how many there were at most.
func (m *measured) most() func() int {
	const sql = `SELECT count(*)::int FROM pg_stat_activity WHERE usename IS NOT NULL AND usename <> current_user AND backend_type = 'client backend'`
	var most atomic.Int64
	stop, ended := make(chan struct{}), make(chan error, 1)
	conn, err := pgx.Connect(context.Background(), m.server.URL("postgres"))
	require.NoError(m.t, err)
	go func() {
		defer func() { _ = conn.Close(context.Background()) }()
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			var n int64
			if err := conn.QueryRow(context.Background(), sql).Scan(&n); err != nil {
				ended <- err
				return
			}
			most.Store(max(most.Load(), n))
		}
	}()
	return func() int {
		close(stop)
		require.NoError(m.t, <-ended)
		return int(most.Load())
	}
}

// capacityView is the shape of -o json.
type capacityView struct {
	Steps []struct {
		Tenants, Jobs, Connections, Failed, Left int
		Bad                                      string
		P50, P95                                 float64
	}
	Template   string
	Good       int  `json:"good_tenants"`
	MaxTenants int  `json:"max_tenants"`
	Limited    bool `json:"limited"`
	Set        bool `json:"set"`
}

// The test finds a bound and writes it, and placement refuses the tenant beyond it. Nothing
// of the test stays, the catalog learns nothing, and the budget holds.
func TestDatabaseCapacity(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	const budget = 6
	m.ok("server", "set", "own", "--budget", strconv.Itoa(budget))
	before := ask(t, m.env.Pool.Config().ConnConfig.Database, `SELECT (SELECT count(*) FROM headgate.tenants) || ' ' || (SELECT count(*) FROM headgate.databases) || ' ' || (SELECT count(*) FROM river_job)`)
	most := m.most()
	r := m.run(tiny("--set", "-o", "json", "--reason", "the yearly test")...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.LessOrEqual(t, most(), budget)
	require.Contains(t, r.err, "this is load on server own")
	require.Contains(t, r.err, "the copy is dropped")

	var view capacityView
	require.NoError(t, json.Unmarshal([]byte(r.out), &view), r.out)
	require.Len(t, view.Steps, 3)
	for i, tenants := range []int{2, 4, 5} {
		step := view.Steps[i]
		require.Equal(t, tenants, step.Tenants)
		require.Equal(t, tenants*5, step.Jobs)
		require.Zero(t, step.Failed+step.Left, r.out)
		require.Empty(t, step.Bad)
		require.Positive(t, step.Connections)
		require.LessOrEqual(t, step.Connections, budget-1)
	}
	require.Equal(t, 5, view.Good)
	require.Equal(t, 4, view.MaxTenants, "5 less 20 %%")
	require.False(t, view.Limited)
	require.True(t, view.Set)

	require.Zero(t, m.count(copiesSQL))
	after := ask(t, m.env.Pool.Config().ConnConfig.Database, `SELECT (SELECT count(*) FROM headgate.tenants) || ' ' || (SELECT count(*) FROM headgate.databases) || ' ' || (SELECT count(*) FROM river_job)`)
	require.Equal(t, before, after)
	require.Contains(t, m.ok("audit", "list", "-o", "json"), "the yearly test")
	for _, slug := range []string{"a", "b", "c", "d"} {
		m.ok("tenant", "add", slug, "--database", "shared-1")
	}
	m.fails(cli.ExitConflict, []string{"tenant", "add", "e", "--database", "shared-1"}, "takes 4 tenants")
}

// SQL of the operator's runs as a job of each tenant in turn, and a job that fails makes the
// step bad: nothing is proposed, and nothing is set.
func TestDatabaseCapacityRunsOwnSQL(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	folder := t.TempDir()
	good, bad := filepath.Join(folder, "nightly.sql"), filepath.Join(folder, "broken.sql")
	require.NoError(t, os.WriteFile(good, []byte(`SELECT pg_sleep(0.001), headgate.current_org()`), 0o600))
	require.NoError(t, os.WriteFile(bad, []byte(`SELECT * FROM nowhere`), 0o600))
	r := m.run(tiny("--sql", good, "--mix", "nightly=2,write=1")...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Regexp(t, `(?m)^TENANTS +OFFERED S +DONE S +P50 MS +P95 MS +P99 MS +RUN MS +CONNS +FAILED +GOOD$`, r.out)
	require.Contains(t, r.out, "max_tenants 4: 5 tenants were good, less 20 %")
	require.Contains(t, r.err, "no step was bad, so it may hold more: --most N tries")
	require.Contains(t, r.err, "next: `headgate database set shared-1 --max-tenants 4`")
	for _, line := range strings.Split(r.out, "\n") {
		require.LessOrEqual(t, len(line), 80, line)
	}

	r = m.run(tiny("--sql", bad, "--set")...)
	require.Equal(t, cli.ExitFailed, r.code, r.err)
	require.Contains(t, r.err, "10 jobs failed, the first with headgate.sql: job_error")
	r = m.run(tiny("--p95", "1ms")...)
	require.Equal(t, cli.ExitFailed, r.code, r.err)
	require.Contains(t, r.err, "the first step, of 2 tenants, was not good: that is more than 1 ms; begin lower with --first")
	require.Zero(t, m.count(copiesSQL))
	require.Contains(t, m.ok("database", "show", "shared-1", "-o", "json"), `"max_tenants": null`)
}

// A template whose organisations 1 and 3 were erased and moved, and which remembers a job, is
// measured all the same: the organisations of the test are others.
func TestDatabaseCapacityOfAnErasedOrganisation(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	execute(t, m.server.URL(m.dbname), `INSERT INTO headgate.fence (org_id, generation) VALUES (1, 9223372036854775807), (3, 2)`,
		`INSERT INTO headgate.ledger (org_id, job_uid, state) VALUES (1, gen_random_uuid(), 'done')`)
	var view capacityView
	require.NoError(t, json.Unmarshal([]byte(m.ok(tiny("-o", "json")...)), &view))
	require.Equal(t, 5, view.Good)
	execute(t, m.server.URL(m.dbname), `DO $$ BEGIN ASSERT (SELECT count(*) FROM headgate.fence) = 2 AND (SELECT count(*) FROM headgate.ledger) = 1, 'only those of the copy are emptied'; END $$`)
}

// A template may be a backup of the application's own tables, without Headgate's schema; its
// rows are what the jobs of each tenant meet.
func TestDatabaseCapacityOfABackupWithoutHeadgate(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	execute(t, m.server.URL("postgres"), `CREATE DATABASE backup OWNER "`+m.owner+`"`)
	t.Cleanup(func() { execute(t, m.server.URL("postgres"), `DROP DATABASE backup`) })
	execute(t, m.server.URL("backup"), `CREATE TABLE bills AS SELECT n AS org_id FROM generate_series(501, 502) n`, `GRANT SELECT ON bills TO headgate_job`)
	file := filepath.Join(t.TempDir(), "bills.sql")
	require.NoError(t, os.WriteFile(file, []byte(`SELECT 1 / count(*) FROM bills WHERE org_id = headgate.current_org()`), 0o600))
	args := tiny("--template", "backup", "--sql", file, "--most", "2", "-o", "json")
	var view capacityView
	require.NoError(t, json.Unmarshal([]byte(m.ok(append(args, "--first-org", "501")...)), &view))
	require.Equal(t, 2, view.Good)
	require.Equal(t, "backup", view.Template)
	r := m.run(append(args, "--first-org", "502")...)
	require.Equal(t, cli.ExitFailed, r.code, r.err)
	require.Contains(t, r.err, "division_by_zero", "organisation 503 has no bill")
	require.Equal(t, 1, m.count(`SELECT count(*)::int FROM pg_database WHERE datname = 'backup'`))
	require.Zero(t, m.count(copiesSQL))
}

// A signal drops the copy. What a killed test has left the next one drops, and so does --clean;
// a copy of a test that runs is left alone, and a second test is refused.
func TestDatabaseCapacityLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	begin := func() (*os.Process, *watched, func() int) {
		cmd, out := m.process("database", "capacity", "shared-1", "--for", "1h", "--first", "1", "--most", "1", "--jobs-per-tenant-hour", "36000")
		require.NoError(t, cmd.Start())
		out.await(t, "this is load")
		require.Eventually(t, func() bool { // its worker is at work
			return m.count(`SELECT count(*)::int FROM pg_stat_activity WHERE datname LIKE 'headgate\_capacity\_%' AND usename LIKE '%\_job'`) > 0
		}, 2*time.Minute, 20*time.Millisecond, "%s", out)
		return cmd.Process, out, func() int {
			_ = cmd.Wait() // its code says how it ended
			return cmd.ProcessState.ExitCode()
		}
	}

	process, out, wait := begin()
	m.ok("database", "capacity", "shared-1", "--clean")
	require.Equal(t, 1, m.count(copiesSQL), "its test runs")
	m.fails(cli.ExitConflict, tiny(), "another capacity test (headgate_capacity_", "runs on server own")
	require.NoError(t, process.Signal(syscall.SIGINT))
	require.Equal(t, cli.ExitInterrupted, wait(), "%s", out)
	require.Zero(t, m.count(copiesSQL), "%s", out)

	process, _, wait = begin()
	require.NoError(t, process.Kill())
	wait()
	require.Equal(t, 1, m.count(copiesSQL))
	r := m.run(tiny("--most", "2")...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Regexp(t, regexp.MustCompile(`dropped: headgate_capacity_[0-9a-f]{12}, which a test that was killed has left`), r.err)
	require.Zero(t, m.count(copiesSQL))

	process, _, wait = begin()
	require.NoError(t, process.Kill())
	wait()
	require.Eventually(t, func() bool { // the server has noticed
		m.ok("database", "capacity", "shared-1", "--clean")
		return m.count(copiesSQL) == 0
	}, 2*time.Minute, 20*time.Millisecond)
	require.Contains(t, m.run("database", "capacity", "shared-1", "--clean").err, "no test has left a copy on server own")
}

// The workers of the server come first: when they and the test are above the budget, the test
// ends, and drops its copy.
func TestDatabaseCapacityMakesRoomForWorkers(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	const budget = 8
	m.ok("server", "set", "own", "--budget", strconv.Itoa(budget))
	run := m.start("database", "capacity", "shared-1", "--for", "1h", "--first", "1", "--most", "1", "--jobs-per-tenant-hour", "36000")
	require.Eventually(t, func() bool { // the copy is made: others may connect to what was copied
		return m.count(`SELECT count(*)::int FROM pg_stat_activity WHERE datname LIKE 'headgate\_capacity\_%' AND usename LIKE '%\_job'`) > 0
	}, 2*time.Minute, 20*time.Millisecond, "%s", run.err)
	cfg, err := pgx.ParseConfig(m.server.URL(m.dbname))
	require.NoError(t, err)
	cfg.RuntimeParams["application_name"] = "headgate/bill/0190"
	for range budget {
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	require.Equal(t, cli.ExitFailed, run.wait(), "%s", run.err)
	require.Contains(t, run.err.String(), "the workers of server own have 8 connections and the test ")
	require.Contains(t, run.err.String(), "more than the budget of 8 together")
	require.Zero(t, m.count(copiesSQL))
}

// A copy whose making was broken off has no comment, and lets nobody in yet. What only has a
// name like that is somebody's, and a copy that is another administrator's is in nobody's way.
func TestDatabaseCapacityDropsWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	execute(t, m.server.URL("postgres"),
		`CREATE DATABASE headgate_capacity_00000000000a OWNER planted_admin ALLOW_CONNECTIONS false`,
		`CREATE DATABASE headgate_capacity_00000000000b OWNER planted_admin`,
		`CREATE DATABASE headgate_capacity_00000000000c`,
		`COMMENT ON DATABASE headgate_capacity_00000000000c IS 'headgate: a copy for a capacity test'`)
	r := m.run(tiny("--most", "2")...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "dropped: headgate_capacity_00000000000a,")
	require.Contains(t, r.err, "warning: dropping the copy headgate_capacity_00000000000c: ")
	require.NotContains(t, r.err, "headgate_capacity_00000000000b")
	require.Equal(t, 2, m.count(copiesSQL))
	m.fails(cli.ExitNotPermitted, []string{"database", "capacity", "shared-1", "--clean"}, "headgate_capacity_00000000000c", "must be owner")
}

// What cannot be tested is refused before anything is made.
func TestDatabaseCapacityRefuses(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	m.env.Database("acme", jobstest.DatabaseOpts{Kind: "dedicated"})
	m.fails(cli.ExitUsage, []string{"database", "capacity", "acme"}, "database acme is dedicated and holds one tenant")
	m.fails(cli.ExitNotFound, []string{"database", "capacity", "shared-2"}, "did you mean shared-1?")
	for flags, says := range map[string]string{
		"--first=0":                        "--first is 0: give 1 to 100000",
		"--first=9 --most=8":               "--first is 9: give 1 to --most tenants",
		"--for=0s":                         "--for is 0s: give 1s to 1h",
		"--jobs-per-tenant-hour=NaN":       "--jobs-per-tenant-hour is NaN: give 0.001 to 1000000",
		"--jobs-per-tenant-hour=900000000": "give 0.001 to 1000000",
		"--most=100000 --for=1h":           "at most 200000 are allowed",
		"--mix=reports=1":                  "did you mean report?",
		"--mix=report=0":                   "is not NAME=WEIGHT",
		"--mix=report=1,report=2":          "has its weight twice",
		"--connections=2":                  "--connections is 2: give 3 to 10000",
		"--connections=21":                 "the budget of server own is 20, and its workers use 0",
		"--clean --set":                    "give one of them",
		"--template=nowhere":               `server own has no database "nowhere"`,
		"--sql=/nowhere.sql":               "cannot be read",
	} {
		m.fails(cli.ExitUsage, append([]string{"database", "capacity", "shared-1"}, strings.Fields(flags)...), says)
	}
	conn, err := pgx.Connect(t.Context(), m.server.URL(m.dbname))
	require.NoError(t, err)
	m.fails(cli.ExitUsage, tiny(), "1 session is connected to database", "name that with --template")
	require.NoError(t, conn.Close(t.Context()))
	m.ok("server", "set", "own", "--budget", "2")
	m.fails(cli.ExitConflict, tiny(), "workers use 0 of the budget of server own, which is 2, and the test needs 3")
	execute(t, m.server.URL("postgres"), `ALTER ROLE planted_admin NOCREATEDB`)
	m.ok("server", "set", "own", "--budget", "6")
	m.fails(cli.ExitNotPermitted, tiny(), "may not make databases", "ALTER ROLE")
	require.Zero(t, m.count(copiesSQL))
}

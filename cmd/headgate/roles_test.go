package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
)

// adminOf makes an administrator who is no superuser, and a database that he owns.
func adminOf(t *testing.T) (dbname, prefix, url string) {
	t.Helper()
	dbname, address := emptyDatabase(t)
	name := dbname + "_admin"
	admin(t, "postgres", `CREATE ROLE `+name+` LOGIN CREATEDB CREATEROLE PASSWORD 'planted-admin'`, `ALTER DATABASE `+dbname+` OWNER TO `+name)
	prefix = strings.ReplaceAll(dbname, "-", "_")
	t.Cleanup(func() {
		admin(t, dbname, `DO $$ DECLARE r text; BEGIN
			FOR r IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, '`+prefix+`_') ORDER BY rolname DESC LOOP
				EXECUTE format('REASSIGN OWNED BY %I TO CURRENT_USER', r);
				EXECUTE format('DROP OWNED BY %I', r);
			END LOOP;
			FOR r IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, '`+prefix+`_') LOOP
				EXECUTE format('DROP ROLE %I', r);
			END LOOP;
		END $$`)
	})
	return dbname, prefix, as(t, address, name, "planted-admin")
}

// as is an address with another login.
func as(t *testing.T, address, user, password string) string {
	t.Helper()
	changed := regexp.MustCompile(`//[^@]*@`).ReplaceAllString(address, "//"+user+":"+password+"@")
	require.NotEqual(t, address, changed)
	return changed
}

// An administrator who is no superuser prepares an empty database, a login of the owners'
// role migrates it, and the next login of that role migrates it again. Everything may be
// done twice, and by two at once.
func TestCentralPrepare(t *testing.T) {
	t.Parallel()
	dbname, prefix, adminURL := adminOf(t)
	c := newCLI(t, jobstest.ServerURL(t, dbname)).with("HEADGATE_ADMIN_URL", adminURL)
	c.secrets = append(c.secrets, "planted-admin")
	require.Contains(t, c.ok("central", "prepare", "--prefix", prefix, "--dry-run"), prefix+"_enqueue")
	require.Empty(t, ask(t, dbname, `SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname ~ '^`+prefix+`_(owner|worker|api|enqueue|read)$'`), "a dry run makes nothing")

	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			r := c.run("central", "prepare", "--prefix", prefix)
			if r.code != cli.ExitOK || !strings.Contains(r.err, "then headgate migrate up") || strings.Contains(r.err, "up --prefix") {
				t.Errorf("%d %s", r.code, r.err)
			}
		})
	}
	group.Wait()
	require.Equal(t, "5", ask(t, dbname, `SELECT count(*) FROM pg_roles WHERE rolname ~ '^`+prefix+`_(owner|worker|api|enqueue|read)$' AND NOT rolcanlogin AND NOT rolsuper`))
	require.Equal(t, prefix+"_owner", ask(t, dbname, `SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'headgate'`))
	require.Equal(t, "false", ask(t, dbname, `SELECT pg_has_role('`+dbname+`_admin', '`+prefix+`_owner', 'USAGE')`), "the administrator has none of its rights")

	for _, login := range []string{"first", "second"} {
		admin(t, dbname, `CREATE ROLE `+prefix+`_`+login+` LOGIN PASSWORD 'planted-owner' IN ROLE `+prefix+`_owner`)
		owner := c.with("DATABASE_URL", as(t, jobstest.ServerURL(t, dbname), prefix+"_"+login, "planted-owner")).with("DATABASE_DIRECT_URL", "").with("HEADGATE_CENTRAL_POOLER", "none")
		r := owner.run("migrate", "up")
		require.Equal(t, cli.ExitOK, r.code, r.err)
		require.NotContains(t, r.err, "role")
	}
	require.Equal(t, prefix+"_owner", ask(t, dbname, `SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class WHERE relnamespace = 'headgate'::regnamespace OR relname ~ '^river_'`))

	stranger := c.with("DATABASE_URL", adminURL).with("DATABASE_DIRECT_URL", "").with("HEADGATE_CENTRAL_POOLER", "none")
	stranger.fails(cli.ExitFailed, []string{"migrate", "up"}, "schema headgate belongs to role "+prefix+"_owner", "GRANT")
}

// What is wrong with a preparation is said, and nothing is made.
func TestCentralPrepareRefuses(t *testing.T) {
	t.Parallel()
	dbname, prefix, adminURL := adminOf(t)
	c := newCLI(t, jobstest.ServerURL(t, dbname))
	c.fails(cli.ExitUsage, []string{"central", "prepare"}, "HEADGATE_ADMIN_URL", "--admin-url-file")
	c.fails(cli.ExitUsage, []string{"central", "prepare", "--prefix", "Shop"}, `prefix "Shop"`)
	c.fails(cli.ExitUsage, []string{"migrate", "up", "--prefix", "Shop"}, `prefix "Shop"`)
	elsewhere := c.with("HEADGATE_ADMIN_URL", jobstest.ServerURL(t, "postgres"))
	elsewhere.fails(cli.ExitUsage, []string{"central", "prepare"}, `it leads to database "postgres"`, dbname)

	admin(t, dbname, `CREATE ROLE `+prefix+`_worker LOGIN`)
	taken := c.with("HEADGATE_ADMIN_URL", adminURL)
	taken.fails(cli.ExitFailed, []string{"central", "prepare", "--prefix", prefix}, prefix+"_worker is there", "--prefix")
	require.Equal(t, "0", ask(t, dbname, `SELECT count(*) FROM pg_roles WHERE rolname = '`+prefix+`_owner'`))
	admin(t, dbname, `DROP ROLE `+prefix+`_worker`, `CREATE ROLE `+prefix+`_nobody LOGIN PASSWORD 'planted-nobody'`)
	weak := c.with("HEADGATE_ADMIN_URL", as(t, adminURL, prefix+"_nobody", "planted-nobody"))
	weak.fails(cli.ExitNotPermitted, []string{"central", "prepare", "--prefix", prefix}, "CREATEROLE", "--dry-run")
	require.Equal(t, "0", ask(t, dbname, `SELECT count(*) FROM pg_namespace WHERE nspname = 'headgate'`))
}

// A central database that is there already gets its roles afterwards; `migrate up` says what
// is missing until then, and doctor as whom it is connected.
func TestRolesAfterTheMigrations(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	require.Contains(t, c.run("migrate", "up").err, "the server has no roles of Headgate's")
	login := finds(t, examined(t, c, cli.ExitOK), "central", "login", doctor.StateWarn)
	require.Contains(t, login.Says, "is a superuser")
	require.Contains(t, finds(t, examined(t, c, cli.ExitOK), "central", "roles", doctor.StateOK).Says, "none: `headgate central prepare --prefix headgate` makes")

	prefix := env.Roles()
	name, url := env.RoleLogin("api")
	api := c.with("DATABASE_URL", url).with("DATABASE_DIRECT_URL", "").with("HEADGATE_CENTRAL_POOLER", "none")
	found := examined(t, api, cli.ExitOK)
	require.Equal(t, name+", a member of "+prefix+"_api", finds(t, found, "central", "login", doctor.StateOK).Says)
	finds(t, found, "central", "roles", doctor.StateOK)

	_, err := env.Pool.Exec(context.Background(), `REVOKE SELECT ON headgate.servers FROM `+prefix+`_worker`)
	require.NoError(t, err)
	lacking := finds(t, examined(t, c, cli.ExitOK), "central", "roles", doctor.StateWarn)
	require.Contains(t, lacking.Says, "GRANT SELECT ON TABLE headgate.servers TO "+prefix+"_worker")
	require.Contains(t, lacking.Next, "headgate migrate up")
	c.ok("migrate", "up") // the advice is carried out
	finds(t, examined(t, c, cli.ExitOK), "central", "roles", doctor.StateOK)
	require.NotContains(t, c.run("migrate", "up").err, "role")
}

// Roles that the server has lost are made again, with their rights, by the two commands that
// doctor names.
func TestRolesThatAreMissing(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	prefix := env.Roles()
	finds(t, examined(t, c, cli.ExitOK), "central", "roles", doctor.StateOK)
	central := nameOfCentral(t, env)
	admin(t, central, "DROP OWNED BY "+prefix+"_enqueue", "DROP ROLE "+prefix+"_enqueue")
	told := finds(t, examined(t, c, cli.ExitOK), "central", "roles", doctor.StateWarn)
	require.Contains(t, told.Says, "the server lacks "+prefix+"_enqueue")
	c.with("HEADGATE_ADMIN_URL", env.URL).ok(advice(t, told.Next, 0, nil)...)
	c.ok(advice(t, told.Next, 1, nil)...)
	finds(t, examined(t, c, cli.ExitOK), "central", "roles", doctor.StateOK)
}

// Postgres lets everybody make large objects. Doctor says so of the central database, and
// what it advises takes that from a login that only enqueues or reads.
func TestLargeObjectsAreNobodys(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Roles()
	for _, role := range []string{"enqueue", "read"} {
		name, url := env.RoleLogin(role)
		conn, err := pgx.Connect(context.Background(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		makes := []string{`SELECT lo_creat(-1)`, `SELECT lo_create(0)`, `SELECT lo_from_bytea(0, 'x')`}
		execute(t, url, makes...) // the control
		told := finds(t, examined(t, c, cli.ExitOK), "central", "large objects", doctor.StateWarn)
		statements := regexp.MustCompile(`(GRANT|REVOKE) EXECUTE ON FUNCTION .*? (TO \S+(, \S+)*|FROM PUBLIC)`).FindAllString(told.Next, -1)
		require.Len(t, statements, 2, told.Next)
		require.Contains(t, statements[0], name)
		admin(t, nameOfCentral(t, env), statements[1])
		finds(t, examined(t, c, cli.ExitOK), "central", "large objects", doctor.StateOK)
		for _, sql := range makes {
			_, err := conn.Exec(context.Background(), sql)
			require.ErrorContains(t, err, "permission denied for function lo_", sql)
		}
		admin(t, nameOfCentral(t, env), strings.TrimSuffix(statements[0], ";"))
		execute(t, url, makes...) // the role that is to go on
		admin(t, nameOfCentral(t, env), `GRANT EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) TO PUBLIC`, `SELECT lo_unlink(oid) FROM pg_largeobject_metadata`)
	}
}

// Each program does its work as a member of its role alone: the commands as api, serve and
// worker as worker; jobs run, schedules fire, a dead worker's job goes on, the janitor makes
// and drops months.
func TestRolesDoTheirWork(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env.Database("shared", jobstest.DatabaseOpts{Schema: `CREATE TABLE notes (org_id bigint, note text); GRANT SELECT, INSERT ON notes TO headgate_job; ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes TO headgate_job USING (org_id = (SELECT headgate.current_org()))`})
	_, apiURL := env.RoleLogin("api")
	_, workerURL := env.RoleLogin("worker")
	direct := func(url string) *commandLine {
		return c.with("DATABASE_URL", url).with("DATABASE_DIRECT_URL", "").with("HEADGATE_CENTRAL_POOLER", "none")
	}
	api := direct(apiURL)
	reports := t.TempDir()
	serve := direct(workerURL).start("serve", "--reports", reports)
	serve.err.await(t, "ready")

	file := filepath.Join(t.TempDir(), "schedules.yaml")
	for _, args := range []string{
		"tenant add acme --database shared --timezone UTC", "tenant add brick --database shared --domain brick.example --email-domain brick.example", "tenant list", "server list", "database list",
		"server set " + jobstest.Server + " --budget 30", "limit set tenant acme --weight 2", "limit set plan pro --max-running 5", "limit set kind headgate.vacuum --max-running 2", "limit set queue bulk --max-running 9",
		"limit list", "limit list --tenant acme", "limit clear tenant acme", "pause tenant brick --note x", "pause list", "resume tenant brick", "pause kind headgate.sql", "resume kind headgate.sql",
		"worker list", "tenant explain acme", "schedule calendar list", "schedule list", "schedule forecast",
	} {
		api.ok(strings.Fields(args)...)
	}
	_, err := env.Pool.Exec(ctx, `UPDATE river_queue SET paused_at = now() WHERE name = 'bulk'`)
	require.NoError(t, err)
	require.Contains(t, api.ok("resume", "queue", "bulk"), "River")
	enqueued := func(args ...string) string {
		var view struct{ UID string }
		require.NoError(t, json.Unmarshal([]byte(api.ok(append(args, "-o", "json")...)), &view))
		return view.UID
	}
	sql := `{"sql": "INSERT INTO notes VALUES (1, 'x')"}`
	uid := enqueued("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", sql, "--idempotency-key", "k")
	require.Equal(t, uid, enqueued("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", sql, "--idempotency-key", "k"))
	require.Equal(t, "succeeded", string(env.Wait(uid).State))
	later := enqueued("job", "enqueue", "headgate.sql", "--tenant", "brick", "--args", sql, "--in", "1h")
	for _, args := range []string{"job list", "job show " + uid, "job explain " + later, "job cancel " + later, "job rerun " + uid} {
		api.ok(strings.Fields(args)...)
	}
	env.Wait(enqueued("job", "enqueue", "headgate.analyze", "--database", "shared"))

	api.ok("schedule", "create", "often", "--tenant", "acme", "--kind", "headgate.sql", "--args", sql, "--cron", "* * * * *")
	api.ok("schedule", "create", "all", "--select", "all", "--kind", "headgate.sql", "--args", sql, "--cron", "0 7 * * *")
	require.NoError(t, os.WriteFile(file, []byte("name: main\nschedules:\n  - name: nightly\n    select: all\n    kind: headgate.sql\n    args: {sql: SELECT 1}\n    cron: 0 3 * * *\n"), 0o600))
	for _, args := range []string{
		"schedule show often --tenant acme", "schedule edit often --tenant acme --overlap allow", "schedule pause often --tenant acme", "schedule resume often --tenant acme",
		"schedule plan -f " + file, "schedule apply -f " + file, "schedule drift -f " + file, "schedule list --templates",
		"schedule trigger often --tenant acme", "schedule forecast",
	} {
		api.ok(strings.Fields(args)...)
	}
	require.NoError(t, awaitRows(ctx, env.Pool, `SELECT count(*) FROM headgate.occurrences WHERE origin = 'clock' AND outcome = 'fired'`, 1, func() {
		_, err := env.Pool.Exec(ctx, `UPDATE headgate.schedules SET next_run_at = now(), next_nominal_at = date_trunc('minute', now()), answered_at = date_trunc('minute', now()) - interval '1 minute', fresh = false WHERE name = 'often'`)
		require.NoError(t, err)
	}))
	require.NoError(t, awaitRows(ctx, env.Pool, `SELECT count(*) FROM headgate.kinds WHERE kind = 'headgate.sql'`, 1, nil))
	examined(t, api, cli.ExitOK)
	serve.stop()
	require.Equal(t, cli.ExitOK, serve.wait(), serve.err.String())
	require.NotContains(t, serve.err.String(), "permission denied")

	workersPool, err := pgxpool.New(ctx, workerURL)
	require.NoError(t, err)
	t.Cleanup(workersPool.Close)
	cat := catalog.New(workersPool, env.CatalogKeys())
	reapsAsWorker(ctx, t, env, workersPool, cat)
	store, err := schedule.New(schedule.Config{Pool: workersPool, Catalog: cat})
	require.NoError(t, err)
	janitor, err := retention.New(retention.Config{Pool: workersPool, Selectors: store.Templates, HistoryRetention: 24 * time.Hour})
	require.NoError(t, err)
	for _, sql := range []string{
		`SELECT headgate.add_part('outcomes', 'month', now() - interval '70 days')`, `INSERT INTO headgate.outcomes_default (id, job_uid, job_id, kind, attempt, state, started_at, ended_at) VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'x', 1, 'failed', '2001-01-01', '2001-01-01')`,
		`SELECT headgate.add_job_logs_day(now() - interval '70 days')`, `INSERT INTO headgate.job_logs_default (id, job_uid, attempt, ended_at, lines) VALUES (gen_random_uuid(), gen_random_uuid(), 1, '2001-01-01', '{}')`,
		`INSERT INTO headgate.kinds (kind, form, required, scope, login, queue, priority, max_attempts, alive_until) VALUES ('old', '', '{}', 'tenant', 'job', 'default', 1, 1, now() - interval '31 days')`,
		`UPDATE headgate.idempotency_keys SET created_at = now() - interval '31 days'`,
	} {
		_, err := env.Pool.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	_, err = env.Pool.Exec(ctx, `DROP TABLE headgate.`+time.Now().UTC().AddDate(0, 2, 1-time.Now().UTC().Day()).Format("outcomes_2006_01"))
	require.NoError(t, err)
	swept, err := janitor.RunOnce(ctx)
	require.NoError(t, err)
	require.Len(t, swept.Made, 1)
	require.Len(t, swept.Dropped, 1)
	require.Len(t, swept.DroppedDays, 1)
	require.Equal(t, []int{1, 1, 1, 1}, []int{swept.Strays, swept.StrayLogs, swept.Kinds, swept.Keys})
}

// reapsAsWorker lets a worker whose login is a member of the worker's role find a dead one.
func reapsAsWorker(ctx context.Context, t *testing.T, env *jobstest.Env, pool *pgxpool.Pool, cat *catalog.Catalog) {
	t.Helper()
	const dead = "11111111-2222-4333-8444-555555555555"
	var id int64
	for _, sql := range []string{
		`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ('` + dead + `', 'dead', 'here', 1, '{x}', '{default}')`,
		`INSERT INTO headgate.hands (incarnation, hand, waiting) VALUES ('` + dead + `', '{}', false)`,
	} {
		_, err := env.Pool.Exec(ctx, sql)
		require.NoError(t, err)
	}
	err := env.Pool.QueryRow(ctx, `
INSERT INTO river_job (state, queue, kind, args, metadata, max_attempts, attempt, attempted_at, attempted_by)
SELECT 'running', 'default', 'x', '{}', jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', id), 5, 1, now(), ARRAY['`+dead+`:1'] FROM headgate.tenants WHERE slug = 'acme' RETURNING id`).Scan(&id)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.Pool, cfg.Resolver, cfg.HeartbeatEvery, cfg.DeadAfter = pool, cat, 300*time.Millisecond, time.Second
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, noted) })
	require.NoError(t, awaitRows(ctx, env.Pool, `SELECT count(*) FROM headgate.workers WHERE incarnation = '`+dead+`' AND reaped_at IS NOT NULL`, 1, nil))
	require.NoError(t, awaitRows(ctx, env.Pool, `SELECT count(*) FROM river_job WHERE kind = 'x' AND state <> 'running'`, 1, nil))
	result, err := env.Client.Enqueue(ctx, "acme", notedArgs{}, nil)
	require.NoError(t, err)
	require.Equal(t, "succeeded", string(env.Wait(result.UID).State))
}

// awaitRows waits until a count is reached; begin, if not nil, comes before each look.
func awaitRows(ctx context.Context, pool *pgxpool.Pool, sql string, want int, begin func()) error {
	if begin != nil {
		begin()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		if err := pool.QueryRow(ctx, sql).Scan(&n); err != nil || n >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// notedArgs is a kind of a program of its own.
type notedArgs struct{}

func (notedArgs) Kind() string { return "noted" }

func noted(ctx context.Context, tx pgx.Tx, _ *jobs.Job[notedArgs]) error {
	_, err := tx.Exec(ctx, `INSERT INTO notes VALUES (1, 'noted')`)
	return err
}

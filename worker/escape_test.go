package worker_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Escape is a job whose own SQL tries to leave its transaction or its tenant.
type Escape struct {
	SQL  string `json:"sql"`
	Hide bool   `json:"hide"` // the handler does not return the error
}

func (Escape) Kind() string { return "escape" }

func (Escape) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1} }

func escape(ctx context.Context, tx pgx.Tx, job *jobs.Job[Escape]) error {
	if _, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`,
		job.Tenant.OrgID, job.UID); err != nil {
		return err
	}
	_, err := tx.Conn().PgConn().Exec(ctx, job.Args.SQL).ReadAll() // as pgx does where there are no parameters
	if job.Args.Hide {
		return nil
	}
	return err
}

// EscapeReading is the same in a transaction that only reads.
type EscapeReading struct{ Escape }

func (EscapeReading) Kind() string { return "escape-reading" }

// F8 and F9 in a handler's own SQL: whatever it does, nothing is committed
// but by Headgate, in the transaction and for the organisation that the job
// began in.
func TestEscapesAreRefused(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, escape)
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[EscapeReading]) error {
			_, err := tx.Conn().PgConn().Exec(ctx, job.Args.SQL).ReadAll()
			return err
		})
	})
	var escaped atomic.Int32
	const write = `; INSERT INTO transfers VALUES (1, gen_random_uuid(), 0, 0, 0)`
	for _, sql := range []string{
		`COMMIT`, `COMMIT AND CHAIN`, `COMMIT; BEGIN`, `COMMIT; BEGIN` + write,
		`ROLLBACK`, `ROLLBACK AND CHAIN`, `ROLLBACK; BEGIN`, `ROLLBACK; BEGIN` + write, `ROLLBACK AND CHAIN` + write,
		`DO $$ BEGIN COMMIT; END $$`, `PREPARE TRANSACTION 'mine'`,
		`SET LOCAL headgate.context = '7'`, `SELECT set_config('headgate.context', '7', true)`, `SET headgate.context = ''`,
		`SET SESSION AUTHORIZATION headgate_job`, `SET LOCAL ROLE headgate_job`, `SET LOCAL row_security = off`,
	} {
		for _, hide := range []bool{false, true} {
			t.Run(sql, func(t *testing.T) {
				t.Parallel()
				got := env.Run("acme", Escape{SQL: sql, Hide: hide})
				require.NotEqual(t, jobs.Succeeded, got.State, got.Message)
				refused := got.SQLState != "" && got.SQLState != "2D000" || strings.Contains(got.Message, "a statement of the job failed")
				if !refused { // Postgres itself has, of these
					require.Equal(t, jobs.ClassEscaped, got.Class, got.Message)
					require.Equal(t, jobs.Cancelled, got.State)
				}
				escaped.Add(map[jobs.Class]int32{jobs.ClassEscaped: 1}[got.Class])
			})
		}
	}
	t.Run("reading", func(t *testing.T) {
		t.Parallel()
		for _, sql := range []string{`COMMIT`, `COMMIT; BEGIN`, `COMMIT; BEGIN READ WRITE` + write, `SET LOCAL headgate.context = '7'`} {
			got := env.Run("acme", EscapeReading{Escape{SQL: sql}})
			require.NotEqual(t, jobs.Succeeded, got.State, got.Message)
			if got.SQLState == "" {
				require.Equal(t, jobs.ClassEscaped, got.Class, got.Message)
			}
		}
	})
	t.Cleanup(func() { // when all of the above is done
		var rows, claims int
		require.NoError(t, db.Pool.QueryRow(context.Background(),
			`SELECT (SELECT count(*) FROM transfers), (SELECT count(*) FROM headgate.ledger)`).Scan(&rows, &claims))
		require.Zero(t, rows, "rows that an escaped job left")
		require.Zero(t, claims, "ledger rows that an escaped job left")
		require.GreaterOrEqual(t, escaped.Load(), int32(16), "of 34 most are ours to notice")
	})
}

// Every role may change its own password and settings, which outlive the job in all
// databases of the server. A job that does is rolled back, and the login is as it was.
func TestAJobLeavesRolesAlone(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, Observed: "its login makes roles, so that Postgres refuses less"})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	login, other := pgx.Identifier{db.Job.User}.Sanitize(), pgx.Identifier{db.Job.User + "_other"}.Sanitize()
	_, err := db.Pool.Exec(ctx, `CREATE ROLE `+other+`; GRANT `+other+` TO `+login+` WITH ADMIN OPTION; ALTER ROLE `+login+` CREATEROLE`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Pool.Exec(ctx, `DROP ROLE IF EXISTS `+other)
		require.NoError(t, err)
	})
	roles := func() (all string) {
		require.NoError(t, db.Pool.QueryRow(ctx, `
SELECT coalesce(string_agg(concat_ws(' ', a.rolname, a.rolpassword, a.rolvaliduntil, s.setconfig, m.roleid, m.member, m.admin_option), E'\n' ORDER BY a.oid, m.roleid, m.member), '')
FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid LEFT JOIN pg_auth_members m ON m.member = a.oid
WHERE a.rolname LIKE $1 || '%'`, db.Job.User).Scan(&all))
		return all
	}
	before := roles()
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, escape) })
	for _, sql := range []string{
		`ALTER ROLE CURRENT_USER SET statement_timeout = 1`,
		`ALTER ROLE CURRENT_USER IN DATABASE ` + pgx.Identifier{db.Job.Database}.Sanitize() + ` SET default_transaction_read_only = on`,
		`ALTER ROLE CURRENT_USER PASSWORD 'hacked'`,
		`DO $$ BEGIN EXECUTE 'ALTER ROLE CURRENT_USER PASSWORD ''hacked'''; END $$`,
		`ALTER ROLE ` + other + ` RENAME TO ` + pgx.Identifier{db.Job.User + "_renamed"}.Sanitize(),
		`REVOKE ` + other + ` FROM ` + login,
		`GRANT headgate_job TO ` + other,
		`CREATE ROLE ` + pgx.Identifier{db.Job.User + "_new"}.Sanitize(),
		`DROP ROLE ` + other,
	} {
		got := env.Run("acme", Escape{SQL: sql})
		require.NotEqual(t, jobs.Succeeded, got.State, sql)
		if got.SQLState == "" { // Postgres itself refuses some, by version
			require.Equal(t, jobs.ClassEscaped, got.Class, "%s: %s", sql, got.Message)
			require.Contains(t, got.Message, "a role's password, settings or memberships", sql)
		}
		require.Equal(t, before, roles(), sql)
		require.Equal(t, jobs.Succeeded, env.Run("acme", Escape{SQL: `SELECT 1`}).State, "%s: the next job runs", sql)
	}
	own, err := pgx.Connect(ctx, db.Pool.Config().ConnString())
	require.NoError(t, err)
	defer func() { _ = own.Close(ctx) }()
	_, err = own.Exec(ctx, `SET SESSION AUTHORIZATION `+login+`; ALTER ROLE CURRENT_USER SET statement_timeout = 60000`)
	require.NoError(t, err, "the control: outside of a job Postgres lets it be")
	require.NotEqual(t, before, roles())
}

// DROP OWNED takes the policies that are for the job login alone, and its rights. A job that
// runs it is rolled back, also from within a block, where no first word tells.
func TestAJobDropsNoPolicy(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: jobstest.Direct(t)})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	login := pgx.Identifier{db.Job.User}.Sanitize()
	_, err := db.Pool.Exec(ctx, `CREATE POLICY alone ON transfers AS RESTRICTIVE TO `+login+` USING (org_id = (SELECT headgate.current_org()))`)
	require.NoError(t, err)
	policies := func() (n int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_policy WHERE polname = 'alone'`).Scan(&n))
		return n
	}
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, escape) })
	const drop = `DO $$ BEGIN DROP OWNED BY CURRENT_USER; END $$`
	got := env.Run("acme", Escape{SQL: drop})
	require.Equal(t, jobs.ClassEscaped, got.Class, got.Message)
	require.Equal(t, 1, policies())
	require.Equal(t, jobs.Succeeded, env.Run("acme", Escape{SQL: `SELECT 1`}).State)
	own, err := pgx.Connect(ctx, db.Pool.Config().ConnString())
	require.NoError(t, err)
	defer func() { _ = own.Close(ctx) }()
	_, err = own.Exec(ctx, `SET SESSION AUTHORIZATION `+login+`; `+drop)
	require.NoError(t, err)
	require.Zero(t, policies(), "the control: outside of a job Postgres lets it be")
}

// Where everybody may make things in schema public, as up to Postgres 14, what a job makes
// there does not run at COMMIT either.
func TestNothingInPublicRunsAtCommit(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: jobstest.Direct(t)})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	exec := func(sql string) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, sql)
		require.NoError(t, err)
	}
	exec(`GRANT CREATE ON SCHEMA public TO headgate_job`)
	settings := func() (n int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%77777%' AND setrole = (SELECT oid FROM pg_roles WHERE rolname = $1)`, db.Job.User).Scan(&n))
		return n
	}
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, escape) })
	for name, sql := range map[string]string{
		"a trigger": `CREATE TABLE public.d (a int); CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN ` + later + `; RETURN NEW; END $f$;
			CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.f(); INSERT INTO public.d VALUES (1)`,
		"a constraint": `CREATE FUNCTION public.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN IF current_setting('app.later', true) = 'yes' THEN ` + later + `; END IF; RETURN 1; END $f$;
			CREATE TEMP TABLE d (a int, EXCLUDE USING btree ((public.f(a)) WITH =) DEFERRABLE INITIALLY DEFERRED); INSERT INTO d VALUES (1), (2); DELETE FROM d WHERE a = 1; SET app.later = 'yes'`,
	} {
		got := env.Run("acme", Escape{SQL: sql})
		require.Equal(t, jobs.ClassEscaped, got.Class, "%s: %s", name, got.Message)
		require.Zero(t, settings(), name)
		exec(`DROP TABLE IF EXISTS public.d; DROP FUNCTION IF EXISTS public.f()`)
	}
	own, err := pgx.Connect(ctx, db.Pool.Config().ConnString())
	require.NoError(t, err)
	defer func() { _ = own.Close(ctx) }()
	_, err = own.Exec(ctx, `SET SESSION AUTHORIZATION `+pgx.Identifier{db.Job.User}.Sanitize()+`; CREATE TABLE public.d (a int);
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN `+later+`; RETURN NEW; END $f$;
		CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.f(); INSERT INTO public.d VALUES (1)`)
	require.NoError(t, err)
	require.Equal(t, 1, settings(), "the control: outside of a job it runs")
}

// OwnersEscape is SQL under the owner's login, which may make functions on purpose.
type OwnersEscape struct {
	SQL string `json:"sql"`
}

func (OwnersEscape) Kind() string { return "owners-escape" }

func (OwnersEscape) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner, MaxAttempts: 1}
}

// The owner's jobs may leave functions in the application's schemas, and none in the
// session's temporary schema, where nothing but the session's own code finds them.
func TestAnOwnersJobLeavesNothingInPgTemp(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	_, err := db.Pool.Exec(context.Background(), `GRANT CREATE ON SCHEMA public TO `+pgx.Identifier{db.Owner.User}.Sanitize())
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[OwnersEscape]) error {
			_, err := tx.Exec(ctx, job.Args.SQL)
			return err
		})
	})
	run := func(schema string) jobs.Outcome {
		t.Helper()
		r, err := env.Client.EnqueueDatabase(context.Background(), "acme", OwnersEscape{`CREATE FUNCTION ` + schema + `.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'`}, nil)
		require.NoError(t, err)
		return env.Wait(r.UID)
	}
	got := run("pg_temp")
	require.Equal(t, jobs.ClassEscaped, got.Class, got.Message)
	require.Equal(t, jobs.Succeeded, run("public").State, "the control")
}

// An operator of a job's own, which its search_path finds first, hides no change of a role: the
// look names Postgres's operators in full.
func TestAnOperatorOfAJobsOwnHidesNothing(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: jobstest.Direct(t)})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	_, err := db.Pool.Exec(ctx, `GRANT CREATE ON SCHEMA public TO headgate_job`) // as on every Postgres before 15
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, escape) })
	got := env.Run("acme", Escape{SQL: `DO $$ BEGIN
		EXECUTE 'CREATE FUNCTION public.zero(bigint, bigint) RETURNS bigint LANGUAGE sql AS ''SELECT 0::bigint''';
		EXECUTE 'CREATE OPERATOR public.+ (leftarg = bigint, rightarg = bigint, function = public.zero)';
		PERFORM set_config('search_path', 'public, pg_catalog', true);
		EXECUTE 'ALTER ROLE CURRENT_USER SET work_mem = 77777';
	END $$`})
	require.Equal(t, jobs.ClassEscaped, got.Class, got.Message)
	var settings int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%77777%' AND setrole = (SELECT oid FROM pg_roles WHERE rolname = $1)`, db.Job.User).Scan(&settings))
	require.Zero(t, settings)
}

// Late reads for long, then writes: the ledger's row comes last.
type Late struct{}

func (Late) Kind() string { return "late" }

func (Late) KindOpts() jobs.KindOpts { return jobs.KindOpts{Optimistic: true} }

// Of two attempts of an optimistic job the first to commit wins; the other rolls
// back and reports what the first has done.
func TestOptimistic(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	overtake := make(chan func(uid string), 1)
	ran := 0
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Late]) error {
			ran++
			var rows int
			if err := db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE job_uid = $1`, job.UID).Scan(&rows); err != nil || rows != 0 {
				return errors.Join(err, jobs.Cancel(errors.New("the ledger has a row before the end")))
			}
			select {
			case f := <-overtake:
				f(job.UID)
			default:
			}
			_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`, job.Tenant.OrgID, job.UID)
			job.Result.Rows = 1
			return err
		})
	})
	rows := func() (n int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM transfers`).Scan(&n))
		return n
	}
	got := env.Run("acme", Late{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.False(t, got.Recovered)
	require.Equal(t, 1, rows())

	overtake <- func(uid string) {
		_, err := db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state, result, done_at) VALUES ($1, $2, 'done', '{"rows": 77}', now())`, acme.OrgID, uid)
		if err != nil {
			t.Error(err)
		}
	}
	got = env.Run("acme", Late{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.True(t, got.Recovered)
	require.EqualValues(t, 77, got.Result.Rows)
	require.Equal(t, 1, rows(), "the overtaken attempt left its rows")
	attempts, err := env.Attempts(ctx, got.JobUID)
	require.NoError(t, err)
	require.Len(t, attempts, 1, "the overtaken attempt has succeeded itself: a job with one attempt is not discarded")
	require.Equal(t, 2, ran)
}

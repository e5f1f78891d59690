package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Sum adds up all balances. Its author forgot the organisation.
type Sum struct{}

func (Sum) Kind() string { return "sum" }

func sum(ctx context.Context, tx pgx.Tx, job *jobs.Job[Sum]) error {
	return tx.QueryRow(ctx, `SELECT coalesce(sum(balance), 0), count(DISTINCT org_id)::text FROM accounts`).Scan(&job.Result.Rows, &job.Result.Output)
}

// Two tenants of one shared database, and one in its own: the same code, with no
// filter, sees each tenant's rows and no others.
func TestAForgottenFilterSeesOneTenant(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	shared := env.Database("shared", jobstest.DatabaseOpts{Kind: "shared", Schema: schema})
	own := env.Database("own", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	acme, brick, solo := env.Tenant("acme", "shared"), env.Tenant("brick", "shared"), env.Tenant("solo", "own")
	open(t, shared, acme.OrgID, 2)
	open(t, shared, brick.OrgID, 3)
	open(t, own, solo.OrgID, 5)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sum); worker.InTx(w, transfer) })

	for slug, want := range map[string]int64{"acme": 2000, "brick": 3000, "solo": 5000} {
		got := env.Run(slug, Sum{})
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, jobs.Result{Rows: want, Output: "1"}, got.Result, slug)
	}
	// Writing without the filter changes one tenant's account, not both.
	got := env.Run("acme", Transfer{From: 1, To: 2, Amount: 100})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	var brickTotal, brickFirst int64
	require.NoError(t, shared.Pool.QueryRow(context.Background(),
		`SELECT sum(balance), max(balance) FROM accounts WHERE org_id = $1`, brick.OrgID).Scan(&brickTotal, &brickFirst))
	require.EqualValues(t, 3000, brickTotal)
	require.EqualValues(t, 1000, brickFirst)
}

// Intrude writes a row for another organisation.
type Intrude struct {
	Org int64 `json:"org"`
}

func (Intrude) Kind() string { return "intrude" }

func (Intrude) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1} }

func TestAJobCannotWriteForAnother(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("shared", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "shared")
	brick := env.Tenant("brick", "shared")
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Intrude]) error {
			_, err := tx.Exec(ctx, `INSERT INTO accounts VALUES ($1, 1, 1)`, job.Args.Org)
			return err
		})
	})
	got := env.Run("acme", Intrude{Org: brick.OrgID})
	require.Equal(t, jobs.Discarded, got.State)
	require.Equal(t, "42501", got.SQLState)
}

// The job login can neither read the ledger nor write it, nor see rows without
// a job's context.
func TestTheJobLoginOwnsNothing(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{Schema: schema})
	ctx := context.Background()
	cfg, err := pgx.ParseConfig(jobstest.ServerURL(t, db.Job.Database))
	require.NoError(t, err)
	cfg.User, cfg.Password = db.Job.User, db.Job.Password.Reveal()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{
		`SELECT * FROM headgate.ledger`,
		`INSERT INTO headgate.ledger (org_id, job_uid) VALUES (1, gen_random_uuid())`,
		`DELETE FROM headgate.ledger`,
		`SELECT * FROM headgate.identity`,
		`UPDATE headgate.fence SET generation = 0`,
		`SELECT * FROM accounts`,
		`CREATE TABLE headgate.mine ()`,
		`DROP POLICY org ON accounts`,
	} {
		_, err := conn.Exec(ctx, sql)
		require.Error(t, err, sql)
	}
	var database string
	require.NoError(t, conn.QueryRow(ctx, `SELECT database_id FROM headgate.whoami()`).Scan(&database))
	require.Equal(t, db.ID, database)
}

// The privileges of the tenant schema, all of them. A change here is a change of
// what a job may do.
func TestTenantPrivilegesGolden(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{})
	rows, err := db.Pool.Query(context.Background(), `
SELECT format('%s %s: %s', kind, name, coalesce(string_agg(privilege, ', ' ORDER BY privilege), 'nothing'))
FROM (
    SELECT 'table' AS kind, c.relname AS name, a.privilege_type AS privilege
    FROM pg_class c LEFT JOIN LATERAL (SELECT * FROM aclexplode(c.relacl) WHERE grantee IN (0, 'headgate_job'::regrole)) a ON true
    WHERE c.relnamespace = 'headgate'::regnamespace AND c.relkind = 'r'
    UNION ALL
    SELECT 'column', c.relname || '.' || a.attname, acl.privilege_type
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) acl
    WHERE c.relnamespace = 'headgate'::regnamespace AND acl.grantee IN (0, 'headgate_job'::regrole)
    UNION ALL
    SELECT 'function', p.proname, a.privilege_type || CASE WHEN p.prosecdef THEN ' as definer' ELSE '' END
    FROM pg_proc p LEFT JOIN LATERAL (SELECT * FROM aclexplode(p.proacl) WHERE grantee IN (0, 'headgate_job'::regrole)) a ON true
    WHERE p.pronamespace = 'headgate'::regnamespace
) all_of_it GROUP BY kind, name ORDER BY kind, name`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{
		"column identity.centre: SELECT",
		"column identity.database_id: SELECT",
		"column identity.serves: SELECT",
		"column identity.token: SELECT",
		"column identity.version: SELECT",
		"column protected.brand_column: SELECT",
		"column protected.mode: SELECT",
		"column protected.object: SELECT",
		"column protected.org_column: SELECT",
		"column protected.shown_by: SELECT",
		"column protected.through: SELECT",
		"function begin_job: EXECUTE as definer",
		"function claim_job: EXECUTE as definer",
		"function close_organisation: nothing",
		"function context: nothing",
		"function current_brand: EXECUTE as definer",
		"function current_org: EXECUTE as definer",
		"function current_org_brand: EXECUTE as definer",
		"function current_org_key: EXECUTE as definer",
		"function delete_apart: nothing",
		"function end_job: EXECUTE as definer",
		"function end_late: EXECUTE as definer",
		"function end_session: EXECUTE as definer",
		"function enter_job: EXECUTE as definer",
		"function fill_version: nothing",
		"function finish_job: EXECUTE as definer",
		"function forget_old: nothing",
		"function forget_organisation: nothing",
		"function hmac: nothing",
		"function keep_commit: nothing",
		"function keep_version: nothing",
		"function leave: nothing",
		"function leave_centre: EXECUTE as definer",
		"function on_delete: nothing",
		"function open: nothing",
		"function peek_job: EXECUTE as definer",
		"function probe: EXECUTE as definer",
		"function read_ticket: nothing",
		"function refuse_open_claim: nothing",
		"function refuse_ticket: nothing",
		"function release_job: EXECUTE as definer",
		"function session_moment: nothing",
		"function tombstone: EXECUTE as definer",
		"function watch_client: EXECUTE",
		"function whoami: EXECUTE as definer",
		"table fence: nothing",
		"table identity: nothing",
		"table ledger: nothing",
		"table migrations: nothing",
		"table protected: nothing",
		"table signing_key: nothing",
	}, lines)
}

// Two passwords stored for each other: the servers refuse both logins, the jobs
// wait without using an attempt, and run when the passwords are right again.
func TestSwappedPasswords(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	one := env.Database("one", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	two := env.Database("two", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	env.Tenant("one", "one")
	env.Tenant("two", "two")
	swapped := func(a, b *jobstest.Database) {
		wrong := a.Job
		wrong.Password = b.Job.Password
		require.NoError(t, env.Catalog.Logins().Set(ctx, a.Name, jobs.LoginJob, wrong))
	}
	swapped(one, two)
	swapped(two, one)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sum) })

	var uids []string
	for _, slug := range []string{"one", "two"} {
		result, err := env.Client.Enqueue(ctx, slug, Sum{}, nil)
		require.NoError(t, err)
		uids = append(uids, result.UID)
		held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
		require.Equal(t, jobs.Snoozed, held.State)
		require.Equal(t, jobs.ClassAuthFailed, held.Class, held.Message)
		if !jobstest.Bounced() { // PgBouncer says everything by one code
			require.Equal(t, "28P01", held.SQLState)
		}
		require.NotContains(t, held.Message, "planted")
		require.Contains(t, held.Message, "headgate database login")
	}
	for _, db := range []*jobstest.Database{one, two} {
		require.NoError(t, env.Catalog.Logins().Set(ctx, db.Name, jobs.LoginJob, db.Job))
	}
	for _, uid := range uids {
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, 1, got.Attempt, "waiting used an attempt")
		attempts, err := env.Attempts(ctx, uid)
		require.NoError(t, err)
		for _, a := range attempts[:len(attempts)-1] {
			require.Equal(t, jobs.ClassAuthFailed, a.Class, "auth_failed, nothing else")
		}
	}
}

// Two sealed values swapped as they stand in the table do not open at all.
func TestSwappedCiphertexts(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	env.Database("one", jobstest.DatabaseOpts{Schema: schema})
	env.Database("two", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("one", "one")
	_, err := env.Pool.Exec(ctx, `
UPDATE headgate.databases d SET job_login = o.job_login FROM headgate.databases o WHERE o.name <> d.name`)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sum) })
	result, err := env.Client.Enqueue(ctx, "one", Sum{}, nil)
	require.NoError(t, err)
	held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.ClassUndecryptable, held.Class, held.Message)
	require.Equal(t, jobs.Snoozed, held.State)
}

// An address that leads to another tenant's database is refused before any
// statement of the job.
func TestWrongDatabase(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	env.Database("one", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("one", "one")
	two := env.Database("two", jobstest.DatabaseOpts{Schema: schema})
	_, err := two.Pool.Exec(ctx, `UPDATE headgate.identity SET database_id = gen_random_uuid()`)
	require.NoError(t, err)
	env.Tenant("two", "two")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sum) })
	result, err := env.Client.Enqueue(ctx, "two", Sum{}, nil)
	require.NoError(t, err)
	held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.ClassWrongDatabase, held.Class, held.Message)
}

// A thousand tenants, one of which has work: one database is opened.
func TestOnlyTheDatabaseWithWorkIsOpened(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	const databases, perDatabase = 50, 20
	names := map[string]string{}
	for d := range databases {
		db := env.Database(fmt.Sprintf("d%d", d), jobstest.DatabaseOpts{Schema: schema})
		names[db.Job.Database] = db.Name
		db.Pool.Close()
	}
	for i := range databases * perDatabase {
		env.Tenant(fmt.Sprintf("t%d", i), fmt.Sprintf("d%d", i%databases))
	}
	before := sessions(t, env, names)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sum) })
	got := env.Run("t77", Sum{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)

	require.Eventually(t, func() bool { return sessions(t, env, names)["d27"] > before["d27"] }, time.Minute, 20*time.Millisecond)
	after := sessions(t, env, names)
	for name := range before {
		if name != "d27" {
			require.Equal(t, before[name], after[name], "database %s was opened without work", name)
		}
	}
	t.Logf("%d tenants in %d databases, 1 job: sessions rose in d27 (%d -> %d) and nowhere else", databases*perDatabase, databases, before["d27"], after["d27"])
}

// sessions reads how often each tenant database was ever connected to.
func sessions(t *testing.T, env *jobstest.Env, names map[string]string) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	rows, err := env.Pool.Query(context.Background(), `SELECT datname, sessions FROM pg_stat_database WHERE datname IS NOT NULL`)
	require.NoError(t, err)
	var dbname string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&dbname, &n}, func() error {
		if name, ok := names[dbname]; ok {
			got[name] = n
		}
		return nil
	})
	require.NoError(t, err)
	require.Len(t, got, len(names))
	return got
}

// Nothing that a failing job leaves behind, in rows or logs, holds a password.
func TestNoPasswordAnywhere(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	wrong := db.Job
	wrong.Password = db.Owner.Password
	require.Contains(t, wrong.Password.Reveal(), "planted")
	require.NoError(t, env.Catalog.Logins().Set(ctx, "acme", jobs.LoginJob, wrong))
	var log bytes.Buffer
	cfg := env.Config()
	cfg.Logger = lockedLogger(&log)
	w := env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, sum) })
	result, err := env.Client.Enqueue(ctx, "acme", Sum{}, nil)
	require.NoError(t, err)
	env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.NoError(t, w.Stop(ctx))
	require.Contains(t, log.String(), "auth_failed")
	for _, table := range []string{"river_job", "headgate.outcomes", "headgate.databases"} {
		var text string
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT coalesce(string_agg(t::text, ' '), '') FROM `+table+` t`).Scan(&text))
		require.NotContains(t, text, "planted", table)
	}
	require.NotContains(t, log.String(), "planted")
}

//go:build faults

package worker_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// bounced is a server of the test's own behind a PgBouncer in transaction mode:
// central database and tenants.
func bounced(t *testing.T) (*jobstest.Env, *jobstest.Postgres) {
	t.Helper()
	p := newBounced(t)
	return jobstest.NewOn(t, p), p
}

func newBounced(t *testing.T) *jobstest.Postgres {
	t.Helper()
	server := startPostgres(t, localpg.Config{TCP: true})
	p := &jobstest.Postgres{Name: "bounced", URL: server.URL}
	p.Bouncer = jobstest.NewBouncer(t, p)
	return p
}

// Litter is a job that leaves in its session whatever Postgres lets it leave, and
// Look one that looks.
type (
	Litter struct {
		SQL string `json:"sql"`
	}
	Look struct{}
)

func (Litter) Kind() string { return "litter" }
func (Look) Kind() string   { return "look" }

func litter(ctx context.Context, tx pgx.Tx, job *jobs.Job[Litter]) error {
	if job.Args.SQL == "prepare" {
		_, err := tx.Prepare(ctx, "planted", "SELECT 1")
		return err
	}
	_, err := tx.Exec(ctx, job.Args.SQL)
	return err
}

const lookRound = `
SELECT json_build_object('role', current_user = session_user, 'path', current_setting('search_path'), 'zone', current_setting('timezone'),
    'app', current_setting('application_name'), 'work_mem', current_setting('work_mem'),
    'temp', (SELECT count(*) FROM pg_class WHERE relname = 'mine'), 'channels', (SELECT count(*) FROM pg_listening_channels()),
    'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    'cursors', (SELECT count(*) FROM pg_cursors WHERE name <> ''), 'prepared', (SELECT count(*) FROM pg_prepared_statements))`

func look(ctx context.Context, tx pgx.Tx, job *jobs.Job[Look]) error {
	var seen json.RawMessage
	if err := tx.QueryRow(ctx, lookRound).Scan(&seen); err != nil {
		return err
	}
	job.Result.Output = string(seen)
	return nil
}

// Jobs in every form work through a PgBouncer in transaction mode, before the
// tenants' server and before the central one; what needs a session goes past it.
// Nothing that a job leaves in a session meets another.
func TestFaultsPgBouncer(t *testing.T) {
	t.Parallel()
	env, p := bounced(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: p})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 10)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, transfer)
		worker.InTx(w, litter)
		worker.InTx(w, look)
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[again]) error {
			_, err := conn.Exec(ctx, `VACUUM transfers`)
			return err
		})
	})
	require.Equal(t, jobs.Succeeded, env.Run("acme", Transfer{From: 1, To: 2, Amount: 5}).State)
	clean := env.Run("acme", Look{})
	require.Equal(t, jobs.Succeeded, clean.State, clean.Message)
	require.Contains(t, clean.Result.Output, `"UTC"`)
	require.Contains(t, clean.Result.Output, `"headgate/look/`)
	rounds := 20
	if testing.Short() {
		rounds = 2
	}
	for _, sql := range []string{
		`SET search_path = nowhere`, `SET timezone = 'Asia/Tokyo'`, `SET work_mem = '7MB'`, `SET application_name = 'mallory'`,
		`CREATE TEMP TABLE mine ()`, `SELECT pg_advisory_lock(1)`, `LISTEN loud`, `DECLARE held CURSOR WITH HOLD FOR SELECT 1`,
		`PREPARE planted AS SELECT 1`, `prepare`,
	} {
		for range rounds {
			o := env.Run("acme", Litter{SQL: sql})
			if strings.Contains(sql, "WITH HOLD") { // whose query would run at COMMIT
				require.Equal(t, jobs.ClassEscaped, o.Class, "%s: %s", sql, o.Message)
			} else {
				require.Equal(t, jobs.Succeeded, o.State, "%s: %s", sql, o.Message)
			}
			o = env.Run("acme", Look{})
			require.Equal(t, jobs.Succeeded, o.State, "%s: %s", sql, o.Message)
			require.Equal(t, withoutUID(clean.Result.Output), withoutUID(o.Result.Output), sql)
		}
	}
	o := env.Run("acme", again{})
	require.Equal(t, jobs.Succeeded, o.State, o.Message)
}

// withoutUID takes out the name that tells one look from another.
func withoutUID(output string) string {
	var seen map[string]any
	_ = json.Unmarshal([]byte(output), &seen) // an empty map differs too
	delete(seen, "app")
	rest, _ := json.Marshal(seen)
	return string(rest)
}

// Without a direct address a kind that needs a session waits and says why; with
// one it goes on.
func TestFaultsPgBouncerNeedsADirectAddress(t *testing.T) {
	t.Parallel()
	env, p := bounced(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: p})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.databases SET job_direct = NULL`)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) {
		worker.OnConn(w, func(context.Context, *pgx.Conn, *jobs.Job[again]) error { return nil })
	})
	result, err := env.Client.Enqueue(ctx, "acme", again{}, nil)
	require.NoError(t, err)
	held := env.WaitFor(result.UID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Equal(t, jobs.ClassUnreachable, held.Class)
	require.Contains(t, held.Message, "no direct address")
	require.Contains(t, held.Message, "headgate database login acme")
}

// Through a transaction pooler nothing is heard of new work, at the product's own
// times: it is picked up within two seconds, and a worker that listens past the
// pooler hears of it at once (P13).
func TestFaultsPgBouncerPickUp(t *testing.T) {
	t.Parallel()
	for name, past := range map[string]bool{"by poll": false, "listening past it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, p := bounced(t)
			tenants := newTenants(t, env, "bank", 4, p)
			cfg := defaultTimes(env)
			cfg.PollOnly = true
			if past {
				direct, err := pgxpool.New(context.Background(), env.URL)
				require.NoError(t, err)
				t.Cleanup(direct.Close)
				cfg.Listen = direct
			}
			env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
			pickUp(t, env, tenants, enqueueFor(t, env, tenants, func() {}))
		})
	}
}

// PgBouncer is killed and comes back, under load: every job has its effect once,
// and none uses an attempt for it.
func TestFaultsPgBouncerKilled(t *testing.T) {
	t.Parallel()
	env, p := jobstest.New(t), newBounced(t) // the central side stays
	tenants := newTenants(t, env, "bank", 4, p)
	cfg := defaultTimes(env)
	cfg.HoldFor = time.Second
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	kills := 0
	list := enqueueFor(t, env, tenants, func() {
		kills++
		if kills%4 == 0 {
			require.NoError(t, p.Bouncer.Restart())
		}
	})
	waitUntilDone(t, env, time.Minute)
	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	used := 0
	for uid, e := range endings(t, env, "slow-transfer") {
		require.Equal(t, 1, e.succeeded, "job %s: %+v", uid, e)
		used += e.failed
	}
	t.Logf("%d kills; %d doubled, %d missing of %d, %d attempts used", kills/4, doubled, missing, of, used)
	require.Zero(t, doubled+missing+used)
}

// Headgate's schema is installed through the pooler where there is no way past.
func TestFaultsPgBouncerInstall(t *testing.T) {
	t.Parallel()
	env, p := bounced(t)
	db := env.Database("acme", jobstest.DatabaseOpts{On: p})
	ctx := context.Background()
	conn, err := tenantdb.Connect(ctx, tenantdb.Config{}, address.PlainLoopback, address.TransactionPooler, db.Owner)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `DROP SCHEMA headgate CASCADE`)
	require.NoError(t, err)
	for i := range 2 {
		applied, err := migrations.UpTenant(ctx, conn, migrations.Identity{DatabaseID: db.ID, SigningKey: db.SigningKey}, nil)
		require.NoError(t, err)
		require.Equal(t, i == 0, len(applied) > 0)
	}
}

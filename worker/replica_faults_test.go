//go:build faults

package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// Plain reads from the primary.
type Plain struct{}

func (Plain) Kind() string { return "plain-reading" }

// Heedless is the control: whatever the lag is, it reads.
type Heedless struct{}

func (Heedless) Kind() string { return "heedless" }

func (Heedless) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{ReadFrom: jobs.Replica, MaxLag: 1000 * time.Hour, OnLag: jobs.WaitForReplica}
}

// countNotes counts what the job sees, and says where.
func countNotes(ctx context.Context, tx pgx.Tx, result *jobs.Result) error {
	return tx.QueryRow(ctx, `SELECT count(*), CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END FROM notes`).Scan(&result.Rows, &result.Output)
}

// replicated is a tenant whose database has a streaming replica, each behind a proxy.
type replicated struct {
	env           *jobstest.Env
	db            *jobstest.Database
	org           int64
	primary       *localpg.Server
	standby       *localpg.Server
	onStandby     *pgx.Conn
	proxy         *proxy // before the standby
	beforePrimary *proxy
	notes         atomic.Int64
	follow        string // the primary_conninfo of the standby
}

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	r := &replicated{}
	server := central(t)
	r.primary = server
	r.beforePrimary = newProxy(t, server.URL(""), nil)
	r.env = jobstest.New(t)
	r.db = r.env.Database("acme", jobstest.DatabaseOpts{Schema: whispers, On: &jobstest.Postgres{Name: "primary", URL: server.URL, Via: r.beforePrimary.port}})
	r.org = r.env.Tenant("acme", "acme").OrgID
	r.standby = startPostgres(t, localpg.Config{Dir: jobstest.BaseBackup(t, server, "--write-recovery-conf"), Settings: replicates})
	var err error
	r.onStandby, err = pgx.Connect(t.Context(), r.standby.URL(r.db.Job.Database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.onStandby.Close(context.Background()) })
	require.NoError(t, r.onStandby.QueryRow(t.Context(), `SELECT quote_literal(current_setting('primary_conninfo'))`).Scan(&r.follow))
	r.proxy = newProxy(t, r.standby.URL(""), nil)
	r.readAt(t, r.proxy.port)
	r.note(t)
	r.follows(t)
	return r
}

// readAt sets the read address.
func (r *replicated) readAt(t *testing.T, port int) {
	t.Helper()
	read := r.db.Job
	read.Port = port
	require.NoError(t, r.env.Catalog.Logins().SetRead(t.Context(), "acme", read))
}

// note writes a row on the primary.
func (r *replicated) note(t *testing.T) {
	t.Helper()
	_, err := r.db.Pool.Exec(t.Context(), `INSERT INTO notes VALUES ($1, 'a note')`, r.org)
	require.NoError(t, err)
	r.notes.Add(1)
}

// follows waits until the standby has replayed all of the primary's log.
func (r *replicated) follows(t *testing.T) {
	t.Helper()
	until(t, r.db.Pool, `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= pg_current_wal_lsn())`)
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func until(t *testing.T, on querier, sql string) {
	t.Helper()
	require.Eventually(t, func() (yes bool) {
		require.NoError(t, on.QueryRow(t.Context(), sql).Scan(&yes))
		return yes
	}, time.Minute, 20*time.Millisecond, sql)
}

func (r *replicated) work(t *testing.T) *worker.Worker {
	t.Helper()
	return r.env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Near]) error {
			if job.Args.Write {
				_, err := tx.Exec(ctx, `INSERT INTO notes (body) VALUES ('a write in a kind that reads')`)
				return err
			}
			return countNotes(ctx, tx, job.Result)
		})
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Awaiting]) error {
			return countNotes(ctx, tx, job.Result)
		})
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Plain]) error {
			return countNotes(ctx, tx, job.Result)
		})
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Heedless]) error {
			return countNotes(ctx, tx, job.Result)
		})
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Touch]) error {
			_, err := tx.Exec(ctx, `INSERT INTO notes (body) VALUES ('a note of a job')`)
			if err == nil {
				r.notes.Add(1)
			}
			return err
		})
	})
}

// saw runs a job and says what it saw.
func (r *replicated) saw(t *testing.T, args jobs.Args) (rows int64, where string, began time.Time) {
	t.Helper()
	got := r.env.Run("acme", args)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt)
	return got.Result.Rows, got.Result.Output, got.StartedAt
}

// reads runs jobs until one reads at a place, and sees all there is.
func (r *replicated) reads(t *testing.T, args jobs.Args, where string) {
	t.Helper()
	require.Eventually(t, func() bool {
		rows, found, _ := r.saw(t, args)
		return found == where && rows == r.notes.Load()
	}, time.Minute, 10*time.Millisecond)
}

// unharmed says that work on the primary goes on, and that no breaker knows of the replica.
func (r *replicated) unharmed(t *testing.T) {
	t.Helper()
	require.Equal(t, jobs.Succeeded, r.env.Run("acme", Touch{}).State)
	rows, where, _ := r.saw(t, Plain{})
	require.Equal(t, "primary", where)
	require.Equal(t, r.notes.Load(), rows)
	var breakers int
	require.NoError(t, r.env.Pool.QueryRow(t.Context(), `SELECT count(*) FROM headgate.breakers`).Scan(&breakers))
	require.Zero(t, breakers)
}

// waiting enqueues a job that waits for the replica, and returns what ends the wait.
func (r *replicated) waiting(t *testing.T, says string) (uid string) {
	t.Helper()
	job, err := r.env.Client.Enqueue(t.Context(), "acme", Awaiting{}, nil)
	require.NoError(t, err)
	held := r.env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Equal(t, jobs.ClassReplica, held.Class, held.Message)
	require.Contains(t, held.Message, says)
	require.Eventually(t, func() bool {
		said, err := r.env.Explain.Explain(t.Context(), job.UID)
		require.NoError(t, err)
		for _, fact := range said.Facts {
			if fact.Next != "" && fact.Code == "last_attempt" {
				require.Contains(t, fact.Next, "headgate database login acme --no-job-read")
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond, "explain says why it waits")
	return job.UID
}

// ended sees that a job that waited has used no attempt.
func (r *replicated) ended(t *testing.T, uid, where string) {
	t.Helper()
	got := r.env.Wait(uid)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt, "waiting uses no attempt")
	require.Equal(t, where, got.Result.Output)
	require.Equal(t, r.notes.Load(), got.Result.Rows)
}

// A kind that reads from a replica does so, also while nobody writes on the primary: that
// the last replayed commit is old is no lag.
func TestFaultsAnIdlePrimaryHasNoLag(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	r.work(t)
	r.reads(t, Near{}, "replica")
	until(t, r.onStandby, `SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > '5 s'`) // longer than MaxLag, twice
	for range 3 {
		r.reads(t, Near{}, "replica")
		rows, where, _ := r.saw(t, Awaiting{})
		require.Equal(t, "replica", where)
		require.Equal(t, r.notes.Load(), rows)
	}
	r.unharmed(t)
}

// A replica that does not replay is read from for MaxLag at most, whatever keeps it: after
// that a kind reads from the primary, or waits until the replica has caught up. A kind
// without the limit reads what is gone for good (the control).
func TestFaultsALaggingReplicaIsNotReadFrom(t *testing.T) {
	t.Parallel()
	on := func(t *testing.T, r *replicated, statements ...string) {
		for _, sql := range statements {
			_, err := r.onStandby.Exec(t.Context(), sql)
			require.NoError(t, err, sql)
		}
	}
	for name, c := range map[string]struct {
		stop, goOn func(t *testing.T, r *replicated)
	}{
		"replay is paused": {
			func(t *testing.T, r *replicated) { on(t, r, `SELECT pg_wal_replay_pause()`) },
			func(t *testing.T, r *replicated) { on(t, r, `SELECT pg_wal_replay_resume()`) },
		},
		"commits are applied late": {
			func(t *testing.T, r *replicated) {
				on(t, r, `ALTER SYSTEM SET recovery_min_apply_delay = '1h'`, `SELECT pg_reload_conf()`)
				until(t, r.onStandby, `SELECT current_setting('recovery_min_apply_delay') = '1h'`)
			},
			func(t *testing.T, r *replicated) {
				on(t, r, `ALTER SYSTEM RESET recovery_min_apply_delay`, `SELECT pg_reload_conf()`)
			},
		},
		// All that was received is replayed, for ever.
		"it is cut off": {
			func(t *testing.T, r *replicated) {
				on(t, r, `ALTER SYSTEM SET primary_conninfo = ''`, `SELECT pg_reload_conf()`)
				until(t, r.onStandby, `SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)`)
			},
			func(t *testing.T, r *replicated) {
				on(t, r, `ALTER SYSTEM SET primary_conninfo = `+r.follow, `SELECT pg_reload_conf()`)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplicated(t)
			r.work(t)
			r.reads(t, Near{}, "replica")
			c.stop(t, r)
			r.note(t)
			changed := time.Now()

			fell := false
			require.Eventually(t, func() bool {
				rows, where, began := r.saw(t, Near{})
				fresh := rows == r.notes.Load()
				if !fresh {
					require.Equal(t, "replica", where)
					require.Less(t, began.Sub(changed), jobs.MinLag, "rows older than MaxLag")
				}
				fell = fell || fresh && where == "primary"
				return fell && time.Since(changed) > 2*jobs.MinLag
			}, time.Minute, 50*time.Millisecond)
			rows, where, _ := r.saw(t, Heedless{})
			require.Equal(t, "replica", where)
			require.Less(t, rows, r.notes.Load(), "the control: without the limit a job reads what was long ago")
			uid := r.waiting(t, "old, and 2s is allowed")
			r.unharmed(t)

			c.goOn(t, r)
			r.ended(t, uid, "replica")
			r.reads(t, Near{}, "replica")
		})
	}
}

// A replica that is away stops no work on the primary. A kind reads from the primary, or
// waits, until the replica is back or its address is taken out.
func TestFaultsAReplicaThatIsAway(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	r.work(t)
	r.reads(t, Near{}, "replica")
	_ = r.proxy.listener.Close()
	r.proxy.cutAll()
	for range 10 { // more than open a breaker
		rows, where, _ := r.saw(t, Near{})
		require.Equal(t, "primary", where)
		require.Equal(t, r.notes.Load(), rows)
	}
	uid := r.waiting(t, "reading from the replica")
	r.unharmed(t)

	r.readAt(t, newProxy(t, r.standby.URL(""), nil).port) // it is back, elsewhere
	r.ended(t, uid, "replica")
	r.reads(t, Near{}, "replica")

	require.NoError(t, r.standby.Stop())
	uid = r.waiting(t, "reading from the replica")
	require.NoError(t, r.env.Catalog.Logins().RemoveRead(t.Context(), "acme"))
	r.ended(t, uid, "primary")
}

// A replica that was promoted has another history from then on. It is not read from.
func TestFaultsAPromotedReplicaIsNotReadFrom(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	r.work(t)
	r.reads(t, Near{}, "replica")
	_, err := r.onStandby.Exec(t.Context(), `SELECT pg_promote()`)
	require.NoError(t, err)
	_, err = r.onStandby.Exec(t.Context(), `DELETE FROM notes`)
	require.NoError(t, err)
	var left int
	require.NoError(t, r.onStandby.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&left))
	require.Zero(t, left, "the control: who reads there reads what the tenant never did")

	rows, where, _ := r.saw(t, Near{})
	require.Equal(t, "primary", where)
	require.Equal(t, r.notes.Load(), rows)
	r.waiting(t, "it takes writes, so it was promoted")
	r.unharmed(t)
}

// A job does not end well that reads from a replica while this is promoted.
func TestFaultsAPromotionUnderAReadingJob(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	first := atomic.Bool{}
	r.env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Awaiting]) error {
			if first.CompareAndSwap(false, true) {
				_, err := r.onStandby.Exec(ctx, `SELECT pg_promote()`)
				if err != nil {
					return err
				}
			}
			return countNotes(ctx, tx, job.Result)
		})
	})
	r.waiting(t, "it was promoted while the job read from it")
}

// A write in a kind that reads is the job's own fault, on a replica too: it uses an
// attempt, and no breaker and no other job hears of it.
func TestFaultsAWriteInAReadingKindOnAReplica(t *testing.T) {
	t.Parallel()
	r := newReplicated(t)
	r.work(t)
	r.reads(t, Near{}, "replica")
	for range 4 {
		job, err := r.env.Client.Enqueue(t.Context(), "acme", Near{Write: true}, &jobs.EnqueueOpts{MaxAttempts: 2})
		require.NoError(t, err)
		got := r.env.Wait(job.UID)
		require.Equal(t, jobs.Discarded, got.State)
		require.Equal(t, jobs.ClassJobError, got.Class)
		require.Equal(t, "25006", got.SQLState)
		require.Equal(t, 2, got.Attempt)
	}
	r.unharmed(t)
	r.reads(t, Near{}, "replica")
}

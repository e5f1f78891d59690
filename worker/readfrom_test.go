package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Near reads from the replica, or from the primary where that is further behind than 2 s.
type Near struct {
	Write bool `json:"write,omitempty"`
}

func (Near) Kind() string { return "near" }

func (Near) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{ReadFrom: jobs.Replica, MaxLag: jobs.MinLag}
}

// Awaiting waits for the replica.
type Awaiting struct{}

func (Awaiting) Kind() string { return "awaiting" }

func (Awaiting) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{ReadFrom: jobs.Replica, MaxLag: jobs.MinLag, OnLag: jobs.WaitForReplica}
}

// whereItReads says on which kind of server a job is.
func whereItReads(ctx context.Context, tx pgx.Tx, result *jobs.Result) error {
	return tx.QueryRow(ctx, `SELECT CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END`).Scan(&result.Output)
}

// Where a database has no read address its jobs read from the primary, whatever their kind
// says of a lag. Where nobody answers there, they read from the primary or wait, and
// nothing of that opens a breaker, though it happens more often than opens one.
func TestReadAddressThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Near]) error {
			return whereItReads(ctx, tx, job.Result)
		})
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Awaiting]) error {
			return whereItReads(ctx, tx, job.Result)
		})
	})
	reads := func(args jobs.Args) {
		t.Helper()
		got := env.Run("acme", args)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, "primary", got.Result.Output)
	}
	reads(Near{})
	reads(Awaiting{})

	read := db.Job
	read.Port = 1
	require.NoError(t, env.Catalog.Logins().SetRead(t.Context(), "acme", read))
	for range 6 {
		reads(Near{})
	}
	job, err := env.Client.Enqueue(t.Context(), "acme", Awaiting{}, nil)
	require.NoError(t, err)
	var times int
	require.Eventually(t, func() bool {
		attempts, err := env.Attempts(t.Context(), job.UID)
		require.NoError(t, err)
		for _, o := range attempts {
			require.Equal(t, jobs.Snoozed, o.State)
			require.Equal(t, jobs.ClassReplica, o.Class)
		}
		times = len(attempts)
		return times > 2
	}, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool { // an attempt that is running just then is told instead
		said, err := env.Explain.Explain(t.Context(), job.UID)
		require.NoError(t, err)
		for _, fact := range said.Facts {
			if fact.Code == "last_attempt" {
				require.Contains(t, fact.Fact, "ended as replica")
				require.Contains(t, fact.Next, "`headgate database login acme --no-job-read`")
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
	var breakers int
	require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT count(*) FROM headgate.breakers`).Scan(&breakers))
	require.Zero(t, breakers)

	require.NoError(t, env.Catalog.Logins().RemoveRead(t.Context(), "acme"))
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt, "waiting uses no attempt")
	require.Equal(t, "primary", got.Result.Output)
}

package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/claim"
)

// A database that takes no writes is tried by one job at a time: of forty that
// wait most are never claimed meanwhile, its neighbour goes on, and all of them
// have their effect when it takes writes again, each at its first attempt.
func TestADatabaseThatRefusesWork(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 2)
	well := env.Database("well", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	open(t, well, env.Tenant("well", "well").OrgID, 2)
	readOnly := func(on string) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, fmt.Sprintf(`ALTER ROLE %s IN DATABASE %s SET default_transaction_read_only = %s`, db.Job.User, db.Job.Database, on))
		require.NoError(t, err)
	}
	readOnly("on")
	cfg := withQueue(env.Config(), "default")
	cfg.Queues["default"], cfg.BreakerPause, cfg.HoldFor = 4, 500*time.Millisecond, 50*time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, transfer) })

	const n = 40
	for range n {
		_, err := env.Client.Enqueue(ctx, "acme", Transfer{From: 1, To: 2, Amount: 10}, nil)
		require.NoError(t, err)
	}
	var class string
	require.Eventually(t, func() bool {
		return env.Pool.QueryRow(ctx, `SELECT class FROM headgate.breakers WHERE scope = 'database' AND id = $1`, db.ID).Scan(&class) == nil
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, string(jobs.ClassReadOnly), class)
	standing, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(standing), "database acme refuse")
	require.Equal(t, jobs.Succeeded, env.Run("well", Transfer{From: 1, To: 2, Amount: 10}).State)
	var untried int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE attempted_at IS NULL AND state = 'available'`).Scan(&untried))
	require.Greater(t, untried, n/2, "jobs that the breaker has kept where they are")

	readOnly("off")
	require.Eventually(t, func() bool {
		var balance int
		err := db.Pool.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 2`).Scan(&balance)
		return err == nil && balance == 1000+10*n
	}, time.Minute, 20*time.Millisecond)
	var used, breakers int
	require.Eventually(t, func() bool {
		err := env.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM headgate.breakers)`).Scan(&breakers)
		return err == nil && breakers == 0
	}, 20*time.Second, 10*time.Millisecond, "the breaker is gone")
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.outcomes WHERE attempt > 1 OR state NOT IN ('succeeded', 'snoozed')`).Scan(&used))
	require.Zero(t, used)
}

// What failed by an address that the catalog has no more opens no breaker for the address that
// took its place; the present address does.
func TestAnOldAddressOpensNoBreaker(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{})
	place, err := env.Catalog.ResolveDatabase(t.Context(), "acme", jobs.LoginJob)
	require.NoError(t, err)
	require.NoError(t, env.Catalog.Logins().Set(t.Context(), "acme", jobs.LoginJob, db.Job))
	open := func(version int) bool {
		b := claim.Breaker{Scope: "database", ID: db.ID, Class: jobs.ClassWrongDatabase, Worker: "w", Pause: time.Hour, Tried: claim.Tried{Database: db.ID, Login: place.Login, Version: version}}
		first, err := b.Open(t.Context(), env.Pool, "gone")
		require.NoError(t, err)
		return first
	}
	require.False(t, open(place.Version))
	require.True(t, open(place.Version+1))
}

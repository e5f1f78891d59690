//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// P17: everything of 10,000 databases is sealed anew under running jobs, while logins are
// replaced: no job fails or uses an attempt. The old key is then retired, and jobs go on
// with a ring that lacks it.
func TestFaultsRekey(t *testing.T) {
	t.Parallel()
	databases, most := 10_000, time.Minute
	if testing.Short() {
		databases = 500
	}
	ctx := context.Background()
	env := jobstest.New(t)
	var tenants []string
	logins := map[string]address.Address{}
	for i := range 4 {
		name := fmt.Sprint("busy", i)
		logins[name] = env.Database(name, jobstest.DatabaseOpts{Kind: "shared", Schema: touched}).Job
		tenants = append(tenants, env.Tenant(name, name).Slug)
	}
	model := logins["busy0"]
	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		for i := range databases {
			job, owner, name := model, model, fmt.Sprintf("idle%d", i)
			job.Database, owner.Database, owner.User = name, name, "owner"
			if _, err := env.Catalog.AddDatabaseTx(ctx, tx, catalog.DatabaseParams{Name: name, Server: jobstest.Server, Kind: "shared", Job: job, Owner: owner, SigningKey: catalog.NewSigningKey()}); err != nil {
				return err
			}
		}
		return nil
	}))
	fresh := catalog.NewKey("fresh")
	ring := func(text string) *catalog.KeyRing {
		made, err := catalog.NewKeyRing(address.NewSecret(text))
		require.NoError(t, err)
		return made
	}
	both := ring(fresh.Reveal() + "," + env.Key)
	for range 2 {
		own := catalog.New(env.Pool, both)
		listener := catalog.NewListener(own, catalog.ListenerConfig{Logger: quietLogger()})
		require.NoError(t, listener.Start(ctx))
		t.Cleanup(func() { require.NoError(t, listener.Stop(context.Background())) })
		cfg := withQueue(env.Config(), "default")
		cfg.Queues["default"], cfg.Logger, cfg.Resolver = 8, quietLogger(), own
		env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, touch) })
	}

	keys := catalog.NewKeys(env.Pool, both)
	var took time.Duration
	var replaced atomic.Int64
	done := make(chan error, 1)
	go func() {
		start := time.Now()
		result, err := keys.Rekey(ctx, catalog.RekeyParams{})
		took = time.Since(start)
		if err == nil && (result.Failed+result.Locked > 0 || result.Sealed < 2*databases) {
			err = fmt.Errorf("%+v", result)
		}
		done <- err
	}()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for i := 0; ; i++ {
			name := fmt.Sprint("busy", i%4)
			if err := catalog.New(env.Pool, both).Logins().Set(ctx, name, jobs.LoginJob, logins[name]); err != nil {
				done <- err
			}
			replaced.Add(1)
			select {
			case err := <-done:
				done <- err
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	flow := newFlow(env)
	flow.run(t, 30*time.Second, tenants, 50, nil, 0)
	select {
	case <-over:
	case <-time.After(2 * time.Minute):
		t.Fatal("rekey does not end")
	}
	require.NoError(t, <-done)

	old := ring(env.Key).IDs()[0]
	require.NoError(t, keys.Retire(ctx, catalog.RetireParams{ID: old}))
	alone := ring(fresh.Reveal())
	start := time.Now()
	verified, err := catalog.NewKeys(env.Pool, alone).Verify(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, verified.Values, verified.Opened)
	verify := time.Since(start)

	var outcomes, used, failed int
	require.NoError(t, env.Pool.QueryRow(ctx, `
SELECT count(*), count(*) FILTER (WHERE attempt > 1), count(*) FILTER (WHERE state <> 'succeeded') FROM headgate.outcomes`).Scan(&outcomes, &used, &failed))
	t.Logf("%d databases, %d values, sealed anew in %v (verified in %v), beside %d jobs and %d replaced logins: %d jobs failed, %d attempts used",
		databases, verified.Values, took.Round(time.Millisecond), verify.Round(time.Millisecond), outcomes, replaced.Load(), failed, used)
	require.Zero(t, failed)
	require.Zero(t, used)
	require.Less(t, took, most)
}

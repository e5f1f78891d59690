package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The heartbeat says how many connections a worker has to a server; the sum is
// over those that live. What the server has no connection for is not claimed, by
// anybody, and waits in the queue.
func TestServerLoads(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 10)
	ctx := context.Background()
	_, err := env.Catalog.SetServer(ctx, jobstest.Server, catalog.ServerChange{Budget: new(2)})
	require.NoError(t, err)
	servers, _, err := env.Catalog.Servers(ctx, jobs.Page{})
	require.NoError(t, err)
	goOn := make(chan struct{})
	var workers []*worker.Worker
	for range 2 {
		cfg := env.Config()
		cfg.HeartbeatEvery, cfg.DeadAfter = 50*time.Millisecond, time.Hour
		cfg.Queues = map[string]int{"default": 2}
		workers = append(workers, env.Work(&cfg, func(w *worker.Worker) {
			worker.InTx(w, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[Transfer]) error {
				select {
				case <-goOn:
				case <-ctx.Done():
				}
				return nil
			})
		}))
	}
	var uids []string
	for range 4 {
		result, err := env.Client.Enqueue(ctx, "acme", Transfer{From: 1, To: 2, Amount: 1}, nil)
		require.NoError(t, err)
		uids = append(uids, result.UID)
	}
	require.Eventually(t, func() bool {
		loads, err := env.Explain.ServerLoads(ctx)
		l := loads[servers[0].ID]
		return err == nil && l.Open == 2 && l.Waiting == 0 && l.Breaker == "closed"
	}, 20*time.Second, 20*time.Millisecond)
	close(goOn)
	for _, uid := range uids {
		require.Equal(t, jobs.Succeeded, env.Wait(uid).State)
	}
	for _, w := range workers {
		require.NoError(t, w.Stop(ctx))
	}
	loads, err := env.Explain.ServerLoads(ctx)
	require.NoError(t, err)
	require.Empty(t, loads, "those that have ended do not count")
}

// A heartbeat stays small, and what is in trouble is in it.
func TestAHeartbeatStaysSmall(t *testing.T) {
	t.Parallel()
	var servers []tenantdb.Server
	for i := range 500 {
		servers = append(servers, tenantdb.Server{ID: fmt.Sprintf("id-%d", i), Open: 3, Breaker: "closed"})
	}
	servers = append(servers, tenantdb.Server{ID: "idle", Breaker: "closed"}, tenantdb.Server{ID: "down", Breaker: "open"})
	text := worker.LoadOf(servers)
	require.Less(t, len(text), 4000)
	require.Contains(t, string(text), `"down":{"breaker":"open"}`)
	require.NotContains(t, string(text), `"idle"`)
	require.Equal(t, "{}", string(worker.LoadOf(nil)))
}

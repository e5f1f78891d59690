package orchestrator_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// Who, why and until when; a second time changes them, and not since when.
func TestPauses(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for scope, name := range map[orchestrator.Scope]string{
		orchestrator.OfTenant: "acme", orchestrator.OfKind: "note", orchestrator.OfQueue: "default", orchestrator.OfServer: jobstest.Server,
	} {
		first, err := env.Client.Pause(ctx, scope, name, nil)
		require.NoError(t, err)
		require.Equal(t, name, first.Name)
		require.Nil(t, first.Until)
		second, err := env.Client.Pause(ctx, scope, name, &orchestrator.PauseOpts{By: "ana", Note: "why", Until: until})
		require.NoError(t, err)
		require.Equal(t, "ana", second.By)
		require.Equal(t, "why", second.Note)
		require.True(t, until.Equal(*second.Until))
		require.Equal(t, first.Since, second.Since)
		do(t, env, `UPDATE headgate.pauses SET until = now() - interval '1 minute', since = now() - interval '1 hour' WHERE scope = $1`, string(scope))
		list, err := env.Client.Pauses(ctx)
		require.NoError(t, err)
		require.Empty(t, list, "one whose time is up is none")
		_, err = env.Client.Resume(ctx, scope, name)
		require.ErrorIs(t, err, orchestrator.ErrNotPaused)

		third, err := env.Client.Pause(ctx, scope, name, &orchestrator.PauseOpts{By: "bo"})
		require.NoError(t, err)
		require.True(t, third.Since.After(first.Since.Add(-time.Minute)), "it begins anew")
		list, err = env.Client.Pauses(ctx)
		require.NoError(t, err)
		require.Equal(t, []orchestrator.Pause{third}, list)
		was, err := env.Client.Resume(ctx, scope, name)
		require.NoError(t, err)
		require.Equal(t, third, was)
		_, err = env.Client.Resume(ctx, scope, name)
		require.ErrorIs(t, err, orchestrator.ErrNotPaused)
	}
}

func TestPausesRefused(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	for says, opts := range map[string]orchestrator.PauseOpts{
		"until: 2020-01-01T00:00:00Z is past": {Until: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
		"at most ten years":                   {Until: time.Now().Add(11 * 366 * 24 * time.Hour)},
		"note: 1001 characters: give at most": {Note: strings.Repeat("ö", 1001)},
		"of valid UTF-8 without NUL":          {Note: "a\x00b"},
		"by: ":                                {By: "\xff"},
	} {
		_, err := env.Client.Pause(ctx, orchestrator.OfKind, "note", &opts)
		require.ErrorContains(t, err, says)
	}
	_, err := env.Client.Pause(ctx, orchestrator.OfTenant, "nobody", nil)
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	_, err = env.Client.Pause(ctx, orchestrator.OfServer, "nowhere", nil)
	require.ErrorIs(t, err, catalog.ErrUnknownServer)
	_, err = env.Client.Pause(ctx, orchestrator.OfPlan, "free", nil)
	require.ErrorContains(t, err, "is not one of tenant, kind, queue, server")
	require.Zero(t, count(t, env, `SELECT count(*) FROM headgate.pauses`))
}

// blocked is a worker whose jobs wait until they are let go; busy tells of each
// that has begun.
func blocked(t *testing.T, env *jobstest.Env) (busy chan string, release func()) {
	t.Helper()
	busy, gate := make(chan string, 100), make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Note]) error {
			busy <- job.Tenant.Slug
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return nil
		})
	})
	return busy, func() { close(gate) }
}

// began waits for a job of a tenant to begin.
func began(t *testing.T, busy chan string) string {
	t.Helper()
	select {
	case slug := <-busy:
		return slug
	case <-time.After(20 * time.Second):
		t.Fatal("no job begins")
		return ""
	}
}

// Workers go by these rows: what is paused is not begun, its neighbour is, and it
// begins when it is resumed.
func TestPauseHoldsTheWorkers(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	_, err := env.Client.Pause(ctx, orchestrator.OfTenant, "acme", &orchestrator.PauseOpts{By: "ana", Note: "audit"})
	require.NoError(t, err)
	held := enqueue(t, env)
	_, err = env.Client.Enqueue(ctx, "brick", Note{"x"}, nil)
	require.NoError(t, err)
	busy, release := blocked(t, env)
	require.Equal(t, "brick", began(t, busy))
	require.Contains(t, factsOf(t, env, held.UID), "tenant acme is paused by ana since ")
	require.Contains(t, factsOf(t, env, held.UID), ": audit → `headgate resume tenant acme`")
	_, err = env.Client.Resume(ctx, orchestrator.OfTenant, "acme")
	require.NoError(t, err)
	require.Equal(t, "acme", began(t, busy))
	release()
	env.Wait(held.UID)
}

// A limit holds in a running worker; explain says by the worker's own account that
// it is used up, and raising it lets the next one begin.
func TestLimitHoldsTheWorkers(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	_, err := env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", MaxRunning: ptr(1)})
	require.NoError(t, err)
	enqueue(t, env)
	busy, release := blocked(t, env)
	began(t, busy)
	second := enqueue(t, env)
	require.Eventually(t, func() bool {
		return strings.Contains(factsOf(t, env, second.UID), "tenant acme is at its limit of running jobs (tenant) 1/1")
	}, 20*time.Second, 20*time.Millisecond)
	loads, err := env.Client.ServerLoads(ctx)
	require.NoError(t, err)
	for _, load := range loads {
		require.Equal(t, 1, load.Running)
		require.GreaterOrEqual(t, load.InUse, 1)
	}
	require.Len(t, loads, 1)
	e, err := env.Client.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Len(t, e.Work, 1)
	require.Equal(t, 1, e.Work[0].Running)
	require.Equal(t, 1, e.Work[0].Waiting)
	require.Equal(t, orchestrator.CodeTenantLimit, e.Facts[0].Code)
	_, err = env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", MaxRunning: ptr(2)})
	require.NoError(t, err)
	began(t, busy)
	release()
	env.Wait(second.UID)
}

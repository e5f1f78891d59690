package admission_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/worker"
)

// Who, why and until when; a second time changes them, and not since when.
func TestPauses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for subject, name := range map[admission.Subject]string{
		admission.OfTenant: "acme", admission.OfKind: "note", admission.OfQueue: "default", admission.OfServer: jobstest.Server,
	} {
		first, err := env.Admission.Pause(ctx, subject, name, nil)
		require.NoError(t, err)
		require.Equal(t, name, first.Name)
		require.Nil(t, first.Until)
		second, err := env.Admission.Pause(ctx, subject, name, &admission.PauseOpts{By: "ana", Note: "why", Until: until})
		require.NoError(t, err)
		require.Equal(t, "ana", second.By)
		require.Equal(t, "why", second.Note)
		require.True(t, until.Equal(*second.Until))
		require.Equal(t, first.Since, second.Since)
		roomtest.Do(t, env, `UPDATE headgate.pauses SET until = now() - interval '1 minute', since = now() - interval '1 hour' WHERE scope = $1`, string(subject))
		list, _, err := env.Admission.Pauses(ctx, jobs.Page{})
		require.NoError(t, err)
		require.Empty(t, list, "one whose time is up is none")
		_, err = env.Admission.Resume(ctx, subject, name)
		require.ErrorIs(t, err, admission.ErrNotPaused)

		third, err := env.Admission.Pause(ctx, subject, name, &admission.PauseOpts{By: "bo"})
		require.NoError(t, err)
		require.True(t, third.Since.After(first.Since.Add(-time.Minute)), "it begins anew")
		list, _, err = env.Admission.Pauses(ctx, jobs.Page{})
		require.NoError(t, err)
		require.Equal(t, []admission.Pause{third}, list)
		was, err := env.Admission.Resume(ctx, subject, name)
		require.NoError(t, err)
		require.Equal(t, third, was)
		_, err = env.Admission.Resume(ctx, subject, name)
		require.ErrorIs(t, err, admission.ErrNotPaused)
	}
}

func TestPausesRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for says, opts := range map[string]admission.PauseOpts{
		`until "2020-01-01T00:00:00Z": it is past`: {Until: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
		"at most ten years":                        {Until: time.Now().Add(11 * 366 * 24 * time.Hour)},
		"note: 1001 characters is too long":        {Note: strings.Repeat("ö", 1001)},
		"note: control characters and invalid":     {Note: "a\x00b"},
		"by: control characters and invalid":       {By: "\xff"},
	} {
		_, err := env.Admission.Pause(ctx, admission.OfKind, "note", &opts)
		require.ErrorContains(t, err, says)
	}
	_, err := env.Admission.Pause(ctx, admission.OfTenant, "nobody", nil)
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	_, err = env.Admission.Pause(ctx, admission.OfServer, "nowhere", nil)
	require.ErrorIs(t, err, catalog.ErrUnknownServer)
	_, err = env.Admission.Pause(ctx, admission.OfPlan, "free", nil)
	require.ErrorContains(t, err, "give one of tenant, kind, queue, server")
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.pauses`))
}

// blocked is a worker whose jobs wait until they are let go; busy tells of each
// that has begun.
func blocked(t *testing.T, env *jobstest.Env) (busy chan string, release func()) {
	t.Helper()
	busy, gate := make(chan string, 100), make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[roomtest.Note]) error {
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
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Admission.Pause(ctx, admission.OfTenant, "acme", &admission.PauseOpts{By: "ana", Note: "audit"})
	require.NoError(t, err)
	held := roomtest.Enqueue(t, env)
	_, err = env.Client.Enqueue(ctx, "brick", roomtest.Note{Text: "x"}, nil)
	require.NoError(t, err)
	busy, release := blocked(t, env)
	require.Equal(t, "brick", began(t, busy))
	require.Contains(t, roomtest.FactsOf(t, env, held.UID), "tenant acme is paused by ana since ")
	require.Contains(t, roomtest.FactsOf(t, env, held.UID), ": audit → `headgate resume tenant acme`")
	_, err = env.Admission.Resume(ctx, admission.OfTenant, "acme")
	require.NoError(t, err)
	require.Equal(t, "acme", began(t, busy))
	release()
	env.Wait(held.UID)
}

// A limit holds in a running worker; explain says by the worker's own account that
// it is used up, and raising it lets the next one begin.
func TestLimitHoldsTheWorkers(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: "acme", MaxRunning: ptr(1)})
	require.NoError(t, err)
	roomtest.Enqueue(t, env)
	busy, release := blocked(t, env)
	began(t, busy)
	second := roomtest.Enqueue(t, env)
	require.Eventually(t, func() bool {
		return strings.Contains(roomtest.FactsOf(t, env, second.UID), "tenant acme is at its limit of running jobs (tenant) 1/1")
	}, 20*time.Second, 20*time.Millisecond)
	loads, err := env.Explain.ServerLoads(ctx)
	require.NoError(t, err)
	for _, load := range loads {
		require.Equal(t, 1, load.Running)
		require.GreaterOrEqual(t, load.InUse, 1)
	}
	require.Len(t, loads, 1)
	e, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Len(t, e.Work, 1)
	require.Equal(t, 1, e.Work[0].Running)
	require.Equal(t, 1, e.Work[0].Waiting)
	require.Equal(t, explain.CodeTenantLimit, e.Facts[0].Code)
	_, err = env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: "acme", MaxRunning: ptr(2)})
	require.NoError(t, err)
	began(t, busy)
	release()
	env.Wait(second.UID)
}

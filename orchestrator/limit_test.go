package orchestrator_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
)

func ptr[T any](v T) *T { return &v }

func rate(t *testing.T, text string) *orchestrator.Rate {
	t.Helper()
	r, err := orchestrator.ParseRate(text)
	require.NoError(t, err)
	return &r
}

// What is set stays until it is changed or cleared, value by value.
func TestLimits(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	set := func(l orchestrator.Limit) orchestrator.Limit {
		t.Helper()
		got, err := env.Client.SetLimit(ctx, l)
		require.NoError(t, err)
		return got
	}
	acme, err := env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	set(orchestrator.Limit{Scope: orchestrator.OfTenant, Name: acme.ID, MaxRunning: ptr(2)})
	got := set(orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", Weight: ptr(0.5), Rate: rate(t, "100/1h")})
	require.Equal(t, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", MaxRunning: ptr(2), Weight: ptr(0.5), Rate: rate(t, "100/h")}, got)
	set(orchestrator.Limit{Scope: orchestrator.OfPlan, Name: "free", Rate: rate(t, "5/s")})
	kind := set(orchestrator.Limit{Scope: orchestrator.OfKind, Name: "note", MaxRunning: ptr(5)})
	require.Nil(t, kind.MaxPerTenant)
	kind = set(orchestrator.Limit{Scope: orchestrator.OfKind, Name: "note", MaxPerTenant: ptr(1)})
	queue := set(orchestrator.Limit{Scope: orchestrator.OfQueue, Name: "default", MaxRunning: ptr(100_000)})
	list, err := env.Client.Limits(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []orchestrator.Limit{{Scope: orchestrator.OfPlan, Name: "free", Rate: rate(t, "5/1s")}, got, kind, queue}, list)
	list, err = env.Client.Limits(ctx, orchestrator.OfKind)
	require.NoError(t, err)
	require.Equal(t, []orchestrator.Limit{kind}, list)

	left, err := env.Client.ClearLimit(ctx, orchestrator.OfTenant, "acme", orchestrator.LimitFields{Weight: true})
	require.NoError(t, err)
	require.Equal(t, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", MaxRunning: ptr(2), Rate: rate(t, "100/1h")}, left)
	_, err = env.Client.ClearLimit(ctx, orchestrator.OfTenant, "acme", orchestrator.LimitFields{Weight: true})
	require.ErrorIs(t, err, orchestrator.ErrNoLimit)
	for _, l := range []orchestrator.Limit{left, kind, queue, {Scope: orchestrator.OfPlan, Name: "free"}} {
		left, err := env.Client.ClearLimit(ctx, l.Scope, l.Name, orchestrator.LimitFields{})
		require.NoError(t, err)
		require.Equal(t, orchestrator.Limit{Scope: l.Scope, Name: l.Name}, left)
		_, err = env.Client.ClearLimit(ctx, l.Scope, l.Name, orchestrator.LimitFields{})
		require.ErrorIs(t, err, orchestrator.ErrNoLimit)
	}
	list, err = env.Client.Limits(ctx, "")
	require.NoError(t, err)
	require.Empty(t, list)
}

// A tenant's own value comes before its plan's, and the list says which it is.
func TestTenantLimits(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	do(t, env, `UPDATE headgate.tenants SET plan = 'gold' WHERE slug = 'acme'`)
	check := func(want ...orchestrator.TenantLimit) {
		t.Helper()
		got, err := env.Client.TenantLimits(ctx, "acme")
		require.NoError(t, err)
		for i := range want {
			want[i].Tenant = "acme"
		}
		require.Equal(t, want, got)
	}
	check(orchestrator.TenantLimit{Limit: "max_running", From: "default"}, orchestrator.TenantLimit{Limit: "weight", Value: 1.0, From: "default"}, orchestrator.TenantLimit{Limit: "rate", From: "default"})
	_, err := env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfPlan, Name: "gold", MaxRunning: ptr(9), Weight: ptr(3.0), Rate: rate(t, "10/1m")})
	require.NoError(t, err)
	_, err = env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", MaxRunning: ptr(4)})
	require.NoError(t, err)
	check(orchestrator.TenantLimit{Limit: "max_running", Value: 4, From: "tenant"}, orchestrator.TenantLimit{Limit: "weight", Value: 3.0, From: "plan gold"}, orchestrator.TenantLimit{Limit: "rate", Value: *rate(t, "10/1m"), From: "plan gold"})
	_, err = env.Client.TenantLimits(ctx, "acmee")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
}

// One sentence says which value is wrong, and what is allowed; nothing is written.
func TestLimitsRefused(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	tenant := func(l orchestrator.Limit) orchestrator.Limit {
		l.Scope, l.Name = orchestrator.OfTenant, "acme"
		return l
	}
	for says, l := range map[string]orchestrator.Limit{
		"max-running: 0 jobs at once: give 1 to 100000; to let nothing run, pause it": tenant(orchestrator.Limit{MaxRunning: ptr(0)}),
		"max-running: 100001 jobs at once":                                            tenant(orchestrator.Limit{MaxRunning: ptr(100_001)}),
		"weight: 0: give 0.001 to 1000":                                               tenant(orchestrator.Limit{Weight: ptr(0.0)}),
		"weight: 1001":                                                                tenant(orchestrator.Limit{Weight: ptr(1001.0)}),
		"weight: NaN":                                                                 tenant(orchestrator.Limit{Weight: ptr(math.NaN())}),
		"rate: 0 jobs: give 1 to 1000000":                                             tenant(orchestrator.Limit{Rate: &orchestrator.Rate{Per: time.Hour}}),
		"rate: a period of 25h0m0s: give 1s to 24h":                                   tenant(orchestrator.Limit{Rate: &orchestrator.Rate{Jobs: 1, Per: 25 * time.Hour}}),
		"per-tenant: a tenant has no such limit; a kind has":                          tenant(orchestrator.Limit{MaxPerTenant: ptr(1)}),
		"nothing is given to set":                                                     tenant(orchestrator.Limit{}),
		"weight: a kind has none; tenants and plans have":                             {Scope: orchestrator.OfKind, Name: "note", Weight: ptr(1.0)},
		"rate: a queue has none":                                                      {Scope: orchestrator.OfQueue, Name: "default", Rate: rate(t, "1/s")},
		"per-tenant: 0 jobs at once":                                                  {Scope: orchestrator.OfKind, Name: "note", MaxPerTenant: ptr(0)},
		`scope: "server" is not one of tenant, plan, kind, queue`:                     {Scope: orchestrator.OfServer, Name: "x", MaxRunning: ptr(1)},
		"kind: the name is empty":                                                     {Scope: orchestrator.OfKind, MaxRunning: ptr(1)},
		"queue: queue \"A B\"":                                                        {Scope: orchestrator.OfQueue, Name: "A B", MaxRunning: ptr(1)},
		"is no plan's name: give at most 200 characters":                              {Scope: orchestrator.OfPlan, Name: strings.Repeat("x", 201), MaxRunning: ptr(1)},
	} {
		_, err := env.Client.SetLimit(ctx, l)
		require.ErrorContains(t, err, says)
		var input *catalog.InputError
		require.ErrorAs(t, err, &input)
	}
	_, err := env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "nobody", MaxRunning: ptr(1)})
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	list, err := env.Client.Limits(ctx, "")
	require.NoError(t, err)
	require.Empty(t, list)
}

// The Tx forms count with the caller's commit, or not at all.
func TestLimitAndPauseTx(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	_, err := env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "brick", MaxRunning: ptr(7), Weight: ptr(2.0)})
	require.NoError(t, err)
	_, err = env.Client.Pause(ctx, orchestrator.OfTenant, "brick", nil)
	require.NoError(t, err)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = env.Client.SetLimitTx(ctx, tx, orchestrator.Limit{Scope: orchestrator.OfQueue, Name: "default", MaxRunning: ptr(1)})
	require.NoError(t, err)
	_, err = env.Client.ClearLimitTx(ctx, tx, orchestrator.OfTenant, "brick", orchestrator.LimitFields{})
	require.NoError(t, err)
	_, err = env.Client.PauseTx(ctx, tx, orchestrator.OfKind, "note", nil)
	require.NoError(t, err)
	_, err = env.Client.ResumeTx(ctx, tx, orchestrator.OfTenant, "brick")
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	list, err := env.Client.Limits(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []orchestrator.Limit{{Scope: orchestrator.OfTenant, Name: "brick", MaxRunning: ptr(7), Weight: ptr(2.0)}}, list)
	pauses, err := env.Client.Pauses(ctx)
	require.NoError(t, err)
	require.Len(t, pauses, 1)

	// An error of a Tx form has done nothing that the caller's commit would keep.
	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Client.ClearLimitTx(ctx, tx, orchestrator.OfTenant, "brick", orchestrator.LimitFields{Rate: true})
		require.ErrorIs(t, err, orchestrator.ErrNoLimit)
		return nil
	}))
	after, err := env.Client.Limits(ctx, "")
	require.NoError(t, err)
	require.Equal(t, list, after)
}

func TestRates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "5", "/1h", "x/1h", "5/", "5/x", "0/1h", "1000001/1h", "5/999ms", "5/25h", "5/-1h", "1e3/1h", "9999999999999999999/1h"} {
		_, err := orchestrator.ParseRate(text)
		require.ErrorContains(t, err, "rate: ", text)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := orchestrator.Rate{Jobs: rapid.IntRange(1, 1_000_000).Draw(t, "jobs"), Per: time.Duration(rapid.IntRange(1, 86400).Draw(t, "seconds")) * time.Second}
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		var back orchestrator.Rate
		require.NoError(t, json.Unmarshal(raw, &back))
		require.Equal(t, r, back)
	})
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"100/1h", "5/s", "1/24h", "-1/1h", "1/1h/2", "٣/1h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := orchestrator.ParseRate(text)
		if err != nil {
			return
		}
		again, err := orchestrator.ParseRate(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %v, and %q is %v (%v)", text, r, r.String(), again, err)
		}
	})
}

// Two who clear different limits of one name at the same time both succeed.
func TestTwoClearLimitsOfOneName(t *testing.T) {
	t.Parallel()
	env := setup(t)
	ctx := context.Background()
	_, err := env.Client.SetLimit(ctx, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", MaxRunning: ptr(3), Weight: ptr(2.0), Rate: rate(t, "5/s")})
	require.NoError(t, err)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = env.Client.ClearLimitTx(ctx, tx, orchestrator.OfTenant, "acme", orchestrator.LimitFields{Weight: true})
	require.NoError(t, err)
	type cleared struct {
		left orchestrator.Limit
		err  error
	}
	second := make(chan cleared, 1)
	go func() {
		left, err := env.Client.ClearLimit(ctx, orchestrator.OfTenant, "acme", orchestrator.LimitFields{MaxRunning: true})
		second <- cleared{left, err}
	}()
	require.Eventually(t, func() bool {
		return count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, tx.Commit(ctx))
	got := <-second
	require.NoError(t, got.err)
	require.Equal(t, orchestrator.Limit{Scope: orchestrator.OfTenant, Name: "acme", Rate: rate(t, "5/s")}, got.left)
}

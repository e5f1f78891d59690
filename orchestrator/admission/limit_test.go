package admission_test

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
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

func ptr[T any](v T) *T { return &v }

func rate(t *testing.T, text string) *admission.Rate {
	t.Helper()
	r, err := admission.ParseRate(text)
	require.NoError(t, err)
	return &r
}

// What is set stays until it is changed or cleared, value by value.
func TestLimits(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	set := func(l admission.Limit) admission.Limit {
		t.Helper()
		got, err := env.Admission.SetLimit(ctx, l)
		require.NoError(t, err)
		return got
	}
	acme, err := env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	set(admission.Limit{Subject: admission.OfTenant, Name: acme.ID, MaxRunning: ptr(2)})
	got := set(admission.Limit{Subject: admission.OfTenant, Name: "acme", Weight: ptr(0.5), Rate: rate(t, "100/1h")})
	require.Equal(t, admission.Limit{Subject: admission.OfTenant, Name: "acme", MaxRunning: ptr(2), Weight: ptr(0.5), Rate: rate(t, "100/h")}, got)
	set(admission.Limit{Subject: admission.OfPlan, Name: "free", Rate: rate(t, "5/s")})
	kind := set(admission.Limit{Subject: admission.OfKind, Name: "note", MaxRunning: ptr(5)})
	require.Nil(t, kind.MaxPerTenant)
	kind = set(admission.Limit{Subject: admission.OfKind, Name: "note", MaxPerTenant: ptr(1)})
	queue := set(admission.Limit{Subject: admission.OfQueue, Name: "default", MaxRunning: ptr(100_000)})
	list, _, err := env.Admission.Limits(ctx, "", jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []admission.Limit{{Subject: admission.OfPlan, Name: "free", Rate: rate(t, "5/1s")}, got, kind, queue}, list)
	list, _, err = env.Admission.Limits(ctx, admission.OfKind, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []admission.Limit{kind}, list)

	left, err := env.Admission.ClearLimit(ctx, admission.OfTenant, "acme", admission.LimitFields{Weight: true})
	require.NoError(t, err)
	require.Equal(t, admission.Limit{Subject: admission.OfTenant, Name: "acme", MaxRunning: ptr(2), Rate: rate(t, "100/1h")}, left)
	_, err = env.Admission.ClearLimit(ctx, admission.OfTenant, "acme", admission.LimitFields{Weight: true})
	require.ErrorIs(t, err, admission.ErrNoLimit)
	for _, l := range []admission.Limit{left, kind, queue, {Subject: admission.OfPlan, Name: "free"}} {
		left, err := env.Admission.ClearLimit(ctx, l.Subject, l.Name, admission.LimitFields{})
		require.NoError(t, err)
		require.Equal(t, admission.Limit{Subject: l.Subject, Name: l.Name}, left)
		_, err = env.Admission.ClearLimit(ctx, l.Subject, l.Name, admission.LimitFields{})
		require.ErrorIs(t, err, admission.ErrNoLimit)
	}
	list, _, err = env.Admission.Limits(ctx, "", jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, list)
}

// A tenant's own value comes before its plan's, and the list says which it is.
func TestTenantLimits(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = 'gold' WHERE slug = 'acme'`)
	check := func(want ...admission.TenantLimit) {
		t.Helper()
		got, err := env.Admission.TenantLimits(ctx, "acme")
		require.NoError(t, err)
		for i := range want {
			want[i].Tenant = "acme"
		}
		require.Equal(t, want, got)
	}
	check(admission.TenantLimit{Limit: "max_running", From: "default"}, admission.TenantLimit{Limit: "weight", Value: 1.0, From: "default"}, admission.TenantLimit{Limit: "rate", From: "default"})
	_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfPlan, Name: "gold", MaxRunning: ptr(9), Weight: ptr(3.0), Rate: rate(t, "10/1m")})
	require.NoError(t, err)
	_, err = env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: "acme", MaxRunning: ptr(4)})
	require.NoError(t, err)
	check(admission.TenantLimit{Limit: "max_running", Value: 4, From: "tenant"}, admission.TenantLimit{Limit: "weight", Value: 3.0, From: "plan gold"}, admission.TenantLimit{Limit: "rate", Value: *rate(t, "10/1m"), From: "plan gold"})
	_, err = env.Admission.TenantLimits(ctx, "acmee")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
}

// One sentence says which value is wrong, and what is allowed; nothing is written.
func TestLimitsRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	tenant := func(l admission.Limit) admission.Limit {
		l.Subject, l.Name = admission.OfTenant, "acme"
		return l
	}
	for says, l := range map[string]admission.Limit{
		`max-running "0": give 1 to 100000 jobs at once; to let nothing run, pause it`: tenant(admission.Limit{MaxRunning: ptr(0)}),
		`max-running "100001": give 1`:                          tenant(admission.Limit{MaxRunning: ptr(100_001)}),
		`weight "0": give 0.001 to 1000`:                        tenant(admission.Limit{Weight: ptr(0.0)}),
		`weight "1001"`:                                         tenant(admission.Limit{Weight: ptr(1001.0)}),
		`weight "NaN"`:                                          tenant(admission.Limit{Weight: ptr(math.NaN())}),
		`rate "0/1h0m0s": give 1 to 1000000 jobs`:               tenant(admission.Limit{Rate: &admission.Rate{Per: time.Hour}}),
		`rate "1/25h0m0s": give a period of 1s to 24h`:          tenant(admission.Limit{Rate: &admission.Rate{Jobs: 1, Per: 25 * time.Hour}}),
		"per-tenant: a tenant has no such limit; a kind has":    tenant(admission.Limit{MaxPerTenant: ptr(1)}),
		"nothing is given to set":                               tenant(admission.Limit{}),
		"weight: a kind has none; tenants and plans have":       {Subject: admission.OfKind, Name: "note", Weight: ptr(1.0)},
		"rate: a queue has none":                                {Subject: admission.OfQueue, Name: "default", Rate: rate(t, "1/s")},
		`per-tenant "0": give 1 to`:                             {Subject: admission.OfKind, Name: "note", MaxPerTenant: ptr(0)},
		`scope "server": give one of tenant, plan, kind, queue`: {Subject: admission.OfServer, Name: "x", MaxRunning: ptr(1)},
		"kind: the name is empty":                               {Subject: admission.OfKind, MaxRunning: ptr(1)},
		"set limit: queue \"A B\": a queue's name":              {Subject: admission.OfQueue, Name: "A B", MaxRunning: ptr(1)},
		"plan: 201 characters is too long; at most 63":          {Subject: admission.OfPlan, Name: strings.Repeat("x", 201), MaxRunning: ptr(1)},
	} {
		_, err := env.Admission.SetLimit(ctx, l)
		require.ErrorContains(t, err, says)
		var input *jobs.InputError
		require.ErrorAs(t, err, &input)
	}
	_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: "nobody", MaxRunning: ptr(1)})
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	list, _, err := env.Admission.Limits(ctx, "", jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, list)
}

// The Tx forms count with the caller's commit, or not at all.
func TestLimitAndPauseTx(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: "brick", MaxRunning: ptr(7), Weight: ptr(2.0)})
	require.NoError(t, err)
	_, err = env.Admission.Pause(ctx, admission.OfTenant, "brick", nil)
	require.NoError(t, err)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = env.Admission.SetLimitTx(ctx, tx, admission.Limit{Subject: admission.OfQueue, Name: "default", MaxRunning: ptr(1)})
	require.NoError(t, err)
	_, err = env.Admission.ClearLimitTx(ctx, tx, admission.OfTenant, "brick", admission.LimitFields{})
	require.NoError(t, err)
	_, err = env.Admission.PauseTx(ctx, tx, admission.OfKind, "note", nil)
	require.NoError(t, err)
	_, err = env.Admission.ResumeTx(ctx, tx, admission.OfTenant, "brick")
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	list, _, err := env.Admission.Limits(ctx, "", jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []admission.Limit{{Subject: admission.OfTenant, Name: "brick", MaxRunning: ptr(7), Weight: ptr(2.0)}}, list)
	pauses, _, err := env.Admission.Pauses(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Len(t, pauses, 1)

	// An error of a Tx form has done nothing that the caller's commit would keep.
	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Admission.ClearLimitTx(ctx, tx, admission.OfTenant, "brick", admission.LimitFields{Rate: true})
		require.ErrorIs(t, err, admission.ErrNoLimit)
		return nil
	}))
	after, _, err := env.Admission.Limits(ctx, "", jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, list, after)
}

func TestRates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "5", "/1h", "x/1h", "5/", "5/x", "0/1h", "1000001/1h", "5/999ms", "5/25h", "5/-1h", "1e3/1h", "9999999999999999999/1h"} {
		_, err := admission.ParseRate(text)
		require.ErrorContains(t, err, "rate", text)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := admission.Rate{Jobs: rapid.IntRange(1, 1_000_000).Draw(t, "jobs"), Per: time.Duration(rapid.IntRange(1, 86400).Draw(t, "seconds")) * time.Second}
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		var back admission.Rate
		require.NoError(t, json.Unmarshal(raw, &back))
		require.Equal(t, r, back)
	})
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"100/1h", "5/s", "1/24h", "-1/1h", "1/1h/2", "٣/1h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := admission.ParseRate(text)
		if err != nil {
			return
		}
		again, err := admission.ParseRate(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %v, and %q is %v (%v)", text, r, r.String(), again, err)
		}
	})
}

// Two who clear different limits of one name at the same time both succeed.
func TestTwoClearLimitsOfOneName(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: "acme", MaxRunning: ptr(3), Weight: ptr(2.0), Rate: rate(t, "5/s")})
	require.NoError(t, err)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = env.Admission.ClearLimitTx(ctx, tx, admission.OfTenant, "acme", admission.LimitFields{Weight: true})
	require.NoError(t, err)
	type cleared struct {
		left admission.Limit
		err  error
	}
	second := make(chan cleared, 1)
	go func() {
		left, err := env.Admission.ClearLimit(ctx, admission.OfTenant, "acme", admission.LimitFields{MaxRunning: true})
		second <- cleared{left, err}
	}()
	require.Eventually(t, func() bool {
		return roomtest.Count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, tx.Commit(ctx))
	got := <-second
	require.NoError(t, got.err)
	require.Equal(t, admission.Limit{Subject: admission.OfTenant, Name: "acme", Rate: rate(t, "5/s")}, got.left)
}

// TestLimitsAndPausesByPages reads lists one by one: each row comes once, in the order
// of the whole list.
func TestLimitsAndPausesByPages(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, l := range []admission.Limit{
		{Subject: admission.OfPlan, Name: "b c"}, {Subject: admission.OfPlan, Name: "a"}, {Subject: admission.OfTenant, Name: "acme"},
		{Subject: admission.OfKind, Name: "note"}, {Subject: admission.OfQueue, Name: "default"},
	} {
		l.MaxRunning = ptr(1)
		_, err := env.Admission.SetLimit(ctx, l)
		require.NoError(t, err)
		if l.Subject != admission.OfPlan {
			_, err = env.Admission.Pause(ctx, l.Subject, l.Name, nil)
			require.NoError(t, err)
		}
	}
	wholeLimits, next, err := env.Admission.Limits(ctx, "", jobs.Page{})
	require.NoError(t, err)
	require.Len(t, wholeLimits, 5)
	require.Empty(t, next)
	require.Equal(t, wholeLimits, byOne(t, func(page jobs.Page) ([]admission.Limit, string, error) { return env.Admission.Limits(ctx, "", page) }))
	wholePauses, next, err := env.Admission.Pauses(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Len(t, wholePauses, 3)
	require.Empty(t, next)
	require.Equal(t, wholePauses, byOne(t, func(page jobs.Page) ([]admission.Pause, string, error) { return env.Admission.Pauses(ctx, page) }))

	for _, subject := range []admission.Subject{"bogus", admission.OfServer} {
		_, _, err := env.Admission.Limits(ctx, subject, jobs.Page{})
		require.ErrorAs(t, err, new(*jobs.InputError), subject)
		require.ErrorContains(t, err, "give one of tenant, plan, kind, queue")
	}
	for _, subject := range []admission.Subject{"bogus", ""} {
		_, _, err := env.Admission.Names(ctx, subject, jobs.Page{})
		require.ErrorAs(t, err, new(*jobs.InputError), subject)
		require.ErrorContains(t, err, "give one of tenant, plan, kind, queue, server")
	}

	for _, page := range []jobs.Page{{Limit: 10_001}, {Limit: -1}, {After: "nowhere"}} {
		var input *jobs.InputError
		_, _, err := env.Admission.Limits(ctx, "", page)
		require.ErrorAs(t, err, &input)
		_, _, err = env.Admission.Pauses(ctx, page)
		require.ErrorAs(t, err, &input)
	}
}

func byOne[T any](t *testing.T, read func(jobs.Page) ([]T, string, error)) (all []T) {
	for page := (jobs.Page{Limit: 1}); ; {
		items, next, err := read(page)
		require.NoError(t, err)
		if all = append(all, items...); next == "" {
			return all
		}
		page.After = next
	}
}

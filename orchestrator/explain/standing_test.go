package explain_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// One case for each limit, breaker and pause, with two workers' hands added up.
func TestExplainStanding(t *testing.T) {
	t.Parallel()
	const two = `{"queues": {"default": 2}, "owners": {"A": {"note": 1, "tidy": 1}}, "servers": {"S": {"jobs": 2, "conns": 3}}}`
	const other = `{"queues": {"default": 1}, "owners": {"B": {"note": 1}}, "servers": {"S": {"jobs": 1, "conns": 1}}}`
	for name, c := range map[string]struct {
		sql  string
		code explain.Code // "": nothing stops it
		says string
	}{
		"nothing":            {},
		"tenant limit":       {`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 2 FROM headgate.tenants WHERE slug = 'acme'`, "tenant_limit", "tenant acme is at its limit of running jobs (tenant) 2/2 → wait, or `headgate limit set tenant acme --max-running N`"},
		"plan limit":         {`INSERT INTO headgate.plan_limits (plan, max_running) VALUES ('', 2)`, "tenant_limit", "running jobs (plan ) 2/2"},
		"tenant above plan":  {`INSERT INTO headgate.plan_limits (plan, max_running) VALUES ('', 2); INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 3 FROM headgate.tenants`, "", ""},
		"kind limit":         {`INSERT INTO headgate.kind_limits (kind, max_running) VALUES ('note', 2)`, "kind_limit", "kind note is at its limit of running jobs 2/2"},
		"kind limit free":    {`INSERT INTO headgate.kind_limits (kind, max_running, max_per_tenant) VALUES ('note', 3, 2)`, "", ""},
		"kind per tenant":    {`INSERT INTO headgate.kind_limits (kind, max_per_tenant) VALUES ('note', 1)`, "kind_tenant_limit", "kind note is at its limit for tenant acme 1/1"},
		"queue limit":        {`INSERT INTO headgate.queue_limits (queue, max_running) VALUES ('default', 3)`, "queue_limit", "queue default is at its limit of running jobs 3/3"},
		"server budget":      {`UPDATE headgate.servers SET connection_budget = 4`, "server_budget", "is at its budget (running jobs 3, kept connections 1) 4/4"},
		"breaker open":       {`INSERT INTO headgate.breakers (scope, id, since, until, cause) SELECT 'server', id, '2026-01-01Z', '2099-01-01Z', 'connection refused' FROM headgate.servers`, "breaker_open", "does not answer since 2026-01-01 00:00:00 UTC: connection refused; the next trial is 2099-01-01 00:00:00 UTC"},
		"breaker half-open":  {`INSERT INTO headgate.breakers (scope, id, since, until, allowed) SELECT 'database', id, '2026-01-01Z', now(), 2 FROM headgate.databases`, "breaker_half_open", "database shared did not answer since 2026-01-01 00:00:00 UTC; it is being tried, by 2 at a time"},
		"rate":               {`INSERT INTO headgate.tenant_limits (tenant_id, rate, rate_period) SELECT id, 2, '1 hour' FROM headgate.tenants; INSERT INTO headgate.lane_rates SELECT id, now() + interval '59 minutes' FROM headgate.tenants`, "rate", "tenant acme has used up its rate of 2/1h0m0s (tenant); its next job may start "},
		"rate with a token":  {`INSERT INTO headgate.tenant_limits (tenant_id, rate, rate_period) SELECT id, 2, '1 hour' FROM headgate.tenants; INSERT INTO headgate.lane_rates SELECT id, now() + interval '29 minutes' FROM headgate.tenants`, "", ""},
		"paused tenant":      {`INSERT INTO headgate.pauses (scope, target, paused_by, note, since, until) SELECT 'tenant', id, 'ana', 'audit', '2026-01-01Z', '2099-01-01Z' FROM headgate.tenants WHERE slug = 'acme'`, "paused_tenant", "tenant acme is paused by ana since 2026-01-01 00:00:00 UTC, until 2099-01-01 00:00:00 UTC: audit → `headgate resume tenant acme`"},
		"paused kind":        {`INSERT INTO headgate.pauses (scope, target) VALUES ('kind', 'note')`, "paused_kind", "kind note is paused since "},
		"paused queue":       {`INSERT INTO headgate.pauses (scope, target) VALUES ('queue', 'default')`, "paused_queue", "queue default is paused since "},
		"paused server":      {`INSERT INTO headgate.pauses (scope, target) SELECT 'server', id FROM headgate.servers`, "paused_server", "server " + jobstest.Server + " is paused since "},
		"another is paused":  {`INSERT INTO headgate.pauses (scope, target) SELECT 'tenant', id FROM headgate.tenants WHERE slug = 'brick'`, "", ""},
		"pause is over":      {`INSERT INTO headgate.pauses (scope, target, until) VALUES ('kind', 'note', now())`, "", ""},
		"dead hands are not": {`UPDATE headgate.workers SET reaped_at = now(); INSERT INTO headgate.kind_limits (kind, max_running) VALUES ('note', 1)`, "no_worker", "no worker is alive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			roomtest.Holds(t, env, two)
			roomtest.Holds(t, env, other)
			job := roomtest.Enqueue(t, env)
			for sql := range strings.SplitSeq(c.sql, ";") {
				roomtest.Do(t, env, sql)
			}
			e, err := env.Explain.Explain(context.Background(), job.UID)
			require.NoError(t, err)
			require.Equal(t, explain.CodeDue, e.Facts[0].Code)
			if c.code == "" {
				require.Len(t, e.Facts, 1, "%v", e.Facts)
				return
			}
			require.Len(t, e.Facts, 2, "%v", e.Facts)
			require.Equal(t, c.code, e.Facts[1].Code)
			require.Contains(t, roomtest.FactsOf(t, env, job.UID), c.says)
		})
	}
}

// All that stops a job stands in the order in which it must pass, and a job of a
// database is explained by its database.
func TestExplainOrder(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job := roomtest.Enqueue(t, env)
	tidy, err := env.Client.EnqueueDatabase(ctx, "shared", roomtest.Tidy{}, nil)
	require.NoError(t, err)
	for scope, name := range map[admission.Subject]string{admission.OfServer: jobstest.Server, admission.OfQueue: "default", admission.OfKind: "note", admission.OfTenant: "acme"} {
		_, err := env.Admission.Pause(ctx, scope, name, nil)
		require.NoError(t, err)
	}
	roomtest.Do(t, env, `UPDATE headgate.tenants SET status = 'suspended'`)
	roomtest.Do(t, env, `INSERT INTO headgate.breakers (scope, id, until) SELECT 'server', id, '2099-01-01Z' FROM headgate.servers`)
	roomtest.Do(t, env, `UPDATE river_job SET state = 'scheduled', scheduled_at = '2099-01-01Z' WHERE kind = 'note'`)
	codes := func(facts []explain.Fact) (list []explain.Code) {
		for _, f := range facts {
			list = append(list, f.Code)
		}
		return list
	}
	e, err := env.Explain.Explain(ctx, job.UID)
	require.NoError(t, err)
	require.Equal(t, []explain.Code{"not_due", "paused_tenant", "paused_kind", "paused_queue", "paused_server", "tenant_status", "no_worker", "breaker_open"}, codes(e.Facts))
	e, err = env.Explain.Explain(ctx, tidy.UID)
	require.NoError(t, err)
	require.Equal(t, []explain.Code{"due", "paused_queue", "paused_server", "no_worker", "breaker_open"}, codes(e.Facts))
	tenant, err := env.Explain.ExplainTenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, []explain.Code{"not_due", "paused_tenant", "paused_server", "tenant_status", "no_worker", "breaker_open"}, codes(tenant.Facts))
	require.Equal(t, "suspended", tenant.Status)
	_, err = env.Explain.ExplainTenant(ctx, "acmee")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
}

// lanes makes active lanes of so many tenants that are not in the catalog, on one
// server each hundred, and a lane of acme's behind them.
func lanes(t *testing.T, env *jobstest.Env, n int) {
	t.Helper()
	roomtest.Do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', gen_random_uuid(), 'note', true, i, 1, lpad((i % 50)::text, 32, '0')::uuid, lpad('0', 32, '0')::uuid, '', 1 FROM generate_series(1, $1::int) i`, n)
	roomtest.Do(t, env, `
INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', t.id, 'note', true, $1::int + 1, 1, d.server_id, d.id, '', 3 FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id WHERE slug = 'acme'`, n)
	roomtest.Do(t, env, `INSERT INTO headgate.lane_groups SELECT DISTINCT queue, server_id, kind FROM headgate.lanes`)
	roomtest.Do(t, env, `INSERT INTO headgate.lane_clocks (queue) VALUES ('default') ON CONFLICT DO NOTHING`)
}

// Who comes before, counted to a thousand, and what the tenant's share is.
func TestExplainTurn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lanes       int
		turn, share string
	}{
		{7, "before it: 7 lanes (a tenant's work of one kind) had less service", "tenant acme has 30 % of queue default: weight 3 of 10 over 8 tenants with work that is due"},
		{1200, "before it: 1,000+ lanes", "tenant acme has at most 0.3 % of queue default"},
	} {
		t.Run(fmt.Sprint(c.lanes), func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			roomtest.Register(t, env, uuid.NewString(), []string{"note"}, []string{"default"})
			lanes(t, env, c.lanes)
			job := roomtest.Enqueue(t, env)
			facts := roomtest.FactsOf(t, env, job.UID)
			require.Contains(t, facts, c.turn)
			require.Contains(t, facts, c.share)
			e, err := env.Explain.ExplainTenant(context.Background(), "acme")
			require.NoError(t, err)
			require.Equal(t, []explain.TenantWork{{Queue: "default", Kind: "note", Waiting: 1, Before: min(c.lanes, 1000)}}, e.Work)
			require.Len(t, e.Facts, 1)
			require.Equal(t, explain.CodeShare, e.Facts[0].Code)
		})
	}
}

// With 10,000 lanes, 50 servers and 20,000 jobs of other tenants, explaining walks
// indexes only, and no more of them than it counts.
func TestExplainWalksIndexes(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	lanes(t, env, 10_000)
	roomtest.Do(t, env, `
INSERT INTO river_job (kind, queue, args, max_attempts, metadata)
SELECT 'note', 'default', '{}', 25, json_build_object('tenant', lane) FROM headgate.lanes, generate_series(1, 2)`)
	roomtest.Do(t, env, `
INSERT INTO river_job (kind, queue, args, max_attempts, metadata, state, scheduled_at)
SELECT 'note', 'default', '{}', 25, json_build_object('tenant', lane), 'retryable', now() + interval '1 hour' FROM headgate.lanes`)
	job := roomtest.Enqueue(t, env)
	acme, err := env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	roomtest.Do(t, env, `ANALYZE`)
	conn, err := env.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	for name, q := range map[string]struct {
		sql  string
		args []any
	}{
		"standing":   {explain.StandingSQL, []any{acme.ID, "default", "note"}},
		"turn":       {explain.TurnSQL, []any{acme.ID, "default", "note", 1000}},
		"around":     {explain.AroundSQL, []any{env.RowOf(job.UID), acme.ID, 1000}},
		"held":       {explain.HeldSQL, []any{acme.ID, "default", "note"}},
		"lanes of":   {explain.LanesOfSQL, []any{acme.ID, 50}},
		"waiting":    {explain.WaitingOfSQL, []any{acme.ID, 50}},
		"later":      {explain.LaterOfSQL, []any{acme.ID, 1000}},
		"due queues": {explain.DueQueuesSQL, nil},
		"due kinds":  {explain.DueKindsSQL, []any{[]string{"note"}}},
	} {
		require.NoError(t, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, explain.OnIndexesSQL)
			require.NoError(t, err)
			var raw []byte
			require.NoError(t, tx.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+q.sql, q.args...).Scan(&raw))
			var plans []struct{ Plan roomtest.Node }
			require.NoError(t, json.Unmarshal(raw, &plans))
			read := 0.0
			plans[0].Plan.Walk(func(n roomtest.Node) {
				require.NotEqual(t, "waiting_queues", n.Function, "what it reads is seen here")
				if n.Relation == "river_job" || n.Relation == "lanes" {
					require.Contains(t, n.Type, "Index", "%s: %s", name, raw)
					read += (n.Rows + n.Removed) * n.Loops
				}
			})
			require.LessOrEqual(t, read, 5000.0, "%s: %s", name, raw)
			return nil
		}))
	}
	best := time.Hour
	for range 5 {
		began := time.Now()
		require.Contains(t, roomtest.FactsOf(t, env, job.UID), "no worker is alive")
		best = min(best, time.Since(began))
	}
	t.Logf("explained in %s", best)
}

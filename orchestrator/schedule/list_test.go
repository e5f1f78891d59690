package schedule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// manySchedules makes so many tenants with ten schedules each, and databases with two.
func manySchedules(t *testing.T, env *jobstest.Env, tenants, databases int) {
	t.Helper()
	roomtest.CreateWith(t, env, "model", "0 3 * * *", schedule.Policy{})
	roomtest.Do(t, env, `
INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind)
SELECT gen_random_uuid(), 1000000 + n, 't' || lpad(n::text, 6, '0'), 'T', d.id, d.kind FROM generate_series(1, $1::int) n, headgate.databases d WHERE d.name = 'shared'`, tenants)
	roomtest.Do(t, env, `
INSERT INTO headgate.databases (id, server_id, name, dbname, kind, job_login, owner_login, signing_key)
SELECT gen_random_uuid(), d.server_id, 'db' || lpad(n::text, 5, '0'), 'db' || n, 'shared', d.job_login, d.owner_login, d.signing_key FROM generate_series(1, $1::int) n, headgate.databases d WHERE d.name = 'shared'`, databases)
	roomtest.Do(t, env, `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, next_run_at)
SELECT gen_random_uuid(), t.id, 's' || n, 'note', '0 3 * * *', 'UTC', now() + interval '1 hour' FROM headgate.tenants t, generate_series(1, 10) n WHERE t.slug ~ '^t[0-9]'`)
	roomtest.Do(t, env, `
INSERT INTO headgate.schedules (id, database_id, name, kind, cron, zone, next_run_at)
SELECT gen_random_uuid(), d.id, 's' || n, 'tidy', '0 3 * * *', 'UTC', now() + interval '1 hour' FROM headgate.databases d, generate_series(1, 2) n WHERE d.name ~ '^db[0-9]'`)
	roomtest.Do(t, env, `ANALYZE headgate.schedules, headgate.tenants, headgate.databases, headgate.fleets`)
}

// Every schedule is on one page, in one order, and those that a filter selects too.
func TestSchedulesAreListedPageByPage(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	manySchedules(t, env, 12, 5)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET error = 'broken' WHERE name = 's3'`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET paused = true WHERE name = 's2'`)
	pages := func(f schedule.Filter) (names []string) {
		for {
			page, next, err := env.Schedules.List(ctx, f)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), f.Limit)
			for _, s := range page {
				names = append(names, fmt.Sprintf("%s/%s/%s", s.Database, s.Tenant, s.Name))
			}
			if f.After = next; next == "" {
				return names
			}
		}
	}
	all := pages(schedule.Filter{Page: jobs.Page{Limit: 1000}})
	require.Len(t, all, 12*10+5*2+1)
	require.Equal(t, "db00001//s1", all[0])
	require.Equal(t, "/acme/model", all[10])
	require.Equal(t, "/t000001/s1", all[11])
	for _, limit := range []int{1, 3, 7, 10, 131} {
		require.Equal(t, all, pages(schedule.Filter{Page: jobs.Page{Limit: limit}}))
	}
	require.Len(t, pages(schedule.Filter{Failing: true, Page: jobs.Page{Limit: 4}}), 12)
	require.Len(t, pages(schedule.Filter{Paused: true, Page: jobs.Page{Limit: 4}}), 12+5)
	require.Len(t, pages(schedule.Filter{Kind: "tidy", Page: jobs.Page{Limit: 4}}), 10)
	require.Len(t, pages(schedule.Filter{Tenant: "t000003", Page: jobs.Page{Limit: 4}}), 10)
	tenant, err := env.Catalog.Tenant(ctx, "t000003")
	require.NoError(t, err)
	for _, name := range []string{tenant.ID, strings.ToUpper(tenant.ID), strconv.FormatInt(tenant.OrgID, 10)} {
		require.Len(t, pages(schedule.Filter{Tenant: name, Page: jobs.Page{Limit: 4}}), 10, name)
	}
	_, _, err = env.Schedules.List(ctx, schedule.Filter{Tenant: "nobody"})
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	require.Empty(t, pages(schedule.Filter{Template: "none", Page: jobs.Page{Limit: 4}}))
	for _, f := range []schedule.Filter{
		{Page: jobs.Page{After: "nightly"}}, {Page: jobs.Page{After: "tenant:acme"}}, {Page: jobs.Page{After: "tenant:/x"}}, {Page: jobs.Page{After: "server:a/x"}},
		{Tenant: "acme", Page: jobs.Page{After: "tenant:brick/x"}}, {Tenant: "acme", Page: jobs.Page{After: "database:db/x"}},
		{Page: jobs.Page{Limit: 1001}}, {Page: jobs.Page{Limit: -1}},
	} {
		_, _, err := env.Schedules.List(ctx, f)
		require.ErrorAs(t, err, new(*jobs.InputError), "%+v", f)
	}
	for _, id := range []string{"", "model", "{" + tenant.ID + "}", " " + tenant.ID, "x" + tenant.ID + "y"} {
		var input *jobs.InputError
		_, _, err := env.Schedules.Changes(ctx, id, jobs.Page{})
		require.ErrorAs(t, err, &input, "%q", id)
		require.Equal(t, "id", input.Field)
		_, _, err = env.Schedules.Occurrences(ctx, id, jobs.Page{})
		require.ErrorAs(t, err, &input, "%q", id)
		require.Equal(t, "id", input.Field)
	}
}

// A page of the list reads a page of rows, wherever it begins.
func TestAPageOfSchedulesReadsAPage(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	manySchedules(t, env, 3000, 2000)
	for name, q := range map[string]struct {
		sql         string
		owner, last string
	}{
		"tenants, the first": {schedule.ListTenantSchedules, "", ""},
		"tenants, a later":   {schedule.ListTenantSchedules, "t002000", "s5"},
		"databases":          {schedule.ListDatabaseSchedules, "db01000", "s1"},
		"one tenant's":       {schedule.ListOneTenantsSchedules, "t002000", "s5"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
				require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, `SELECT set_config('plan_cache_mode', $1, true)`, mode)
					require.NoError(t, err)
					var raw []byte
					require.NoError(t, tx.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+q.sql, q.owner, q.last, "", "", false, false, 100, nil).Scan(&raw))
					var plans []struct{ Plan roomtest.Node }
					require.NoError(t, json.Unmarshal(raw, &plans))
					read := 0.0
					plans[0].Plan.Walk(func(n roomtest.Node) {
						if n.Relation != "" {
							read += (n.Rows + n.Removed) * n.Loops
						}
					})
					require.LessOrEqual(t, read, 600.0, "%s: %s", mode, raw)
					return nil
				}))
			}
		})
	}
}
